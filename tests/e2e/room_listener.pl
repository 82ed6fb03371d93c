#!/usr/bin/perl
# A listener of a reliable room, written in another language from docs/room-protocol.md alone.
#
#   perl room_listener.pl ADDRESS PORT INTERFACE_ADDRESS [--history] [--name NAME] [--lose N]
#
# It prints what is said, a line a message, until its stdin ends, and asks for what it misses.
#   --history  show what was said before it came, too
#   --name     be a member of that name: SESSIONs, confirmations and BYEs as well
#   --lose N   for tests: every Nth message of a sender gets lost on the way, copies and all
use strict;
use warnings;
no warnings 'portable';    # constants of 64 bits
use Encode qw(decode);
use Socket qw(
    :DEFAULT IPPROTO_IP IP_ADD_MEMBERSHIP IP_MULTICAST_IF IP_MULTICAST_LOOP IP_MULTICAST_TTL
);
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

use constant { DATA => 1, NACK => 2, SESSION => 3, BYE => 4 };
use constant { RELAYED => 0x01, FORBIDDEN => 0x06, MORE => 0x08, UNDER_TAG => 0x0E };
use constant NOBODY => "\0" x 8;
use constant DELAY_S => 0.01;    # d, for who gets no echoes
use constant { WINDOW => 1_024, PARTS => 8, RANGES => 55, GAPS => 2_048, HISTORY => 200 };
use constant { NEWCOMER_S => 5, STUCK_ASKS => 6, GONE_ASKS => 8, GONE_S => 30 };
use constant { BULK_GAPS => 16, BULK_MESSAGES => 128, HEARSAY => 64, HEARSAY_UNHEARD => 16 };
use constant GREETED => 20;         # members of a small room

# -- BLAKE2b (RFC 7693), without a key -------------------------------------------------------------

my @IV = (
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
);
my @SIGMA = map { [map { hex } split //] } qw(
    0123456789abcdef ea489fd61c02b753 b8c052fdae367194 7931dcbe265a40f8 905724afe1bc683d
    2c6a0b834d75fe19 c51fed4a0763928b db7ec13950f4862a 6fe9b308c2d714a5 a2847615fb9e3cd0
);
my @MIXED = (    # four columns, then four diagonals
    [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
    [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
);

# Sums wrap at 2^64 only with machine integers; shifts fill with zeros only without them.
sub sum { use integer; my $sum = $_[0] + $_[1]; $sum += $_[2] if @_ > 2; return $sum }
sub rotated { my ($word, $by) = @_; return $word >> $by | $word << 64 - $by }

sub compress {
    my ($state, $block, $count, $last) = @_;
    my @m = unpack 'Q<16', $block . "\0" x (128 - length $block);
    my @v = (@$state, @IV);
    $v[12] ^= $count;
    $v[14] = ~$v[14] if $last;
    for my $round (0 .. 11) {
        my $order = $SIGMA[$round % 10];
        for my $step (0 .. 7) {
            my ($a, $b, $c, $d) = @{$MIXED[$step]};
            $v[$a] = sum($v[$a], $v[$b], $m[$order->[2 * $step]]);
            $v[$d] = rotated($v[$d] ^ $v[$a], 32);
            $v[$c] = sum($v[$c], $v[$d]);
            $v[$b] = rotated($v[$b] ^ $v[$c], 24);
            $v[$a] = sum($v[$a], $v[$b], $m[$order->[2 * $step + 1]]);
            $v[$d] = rotated($v[$d] ^ $v[$a], 16);
            $v[$c] = sum($v[$c], $v[$d]);
            $v[$b] = rotated($v[$b] ^ $v[$c], 63);
        }
    }
    $state->[$_] ^= $v[$_] ^ $v[$_ + 8] for 0 .. 7;
}

sub blake2b {
    my ($bytes, $digest_bytes) = @_;
    my @state = @IV;
    $state[0] ^= 0x01010000 ^ $digest_bytes;
    my $at = 0;
    while (1) {
        my $block = substr $bytes, $at, 128;
        $at += length $block;
        my $last = $at >= length $bytes;
        compress(\@state, $block, $at, $last);
        return substr pack('Q<8', @state), 0, $digest_bytes if $last;
    }
}

# -- arguments, sockets, state ---------------------------------------------------------------------

my ($address, $port, $interface) = splice @ARGV, 0, 3;
my ($history, $name, $lose) = (0, '', 0);
while (defined(my $option = shift)) {
    if    ($option eq '--history') { $history = 1 }
    elsif ($option eq '--name')    { $name    = shift }
    elsif ($option eq '--lose')    { $lose    = shift }
    else                           { die "room_listener: what is $option?\n" }
}
die "room_listener: ADDRESS PORT INTERFACE_ADDRESS, please\n" unless $interface;

my $place = "$address:$port";
my $group = pack_sockaddr_in($port, inet_aton($address));
my ($receiver, $sender);

sub open_sockets {
    for my $socket ($receiver, $sender) {
        socket $socket, PF_INET, SOCK_DGRAM, 0 or die "socket: $!\n";
        setsockopt $socket, SOL_SOCKET, SO_RCVBUF, pack 'i', 4 << 20 or die "SO_RCVBUF: $!\n";
        setsockopt $socket, IPPROTO_IP, 49, pack 'i', 0 or die "IP_MULTICAST_ALL: $!\n";
    }
    setsockopt $receiver, SOL_SOCKET, SO_REUSEADDR, pack 'i', 1 or die "SO_REUSEADDR: $!\n";
    bind $receiver, $group or die "bind: $!\n";
    my $membership = inet_aton($address) . inet_aton($interface);
    setsockopt $receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, $membership or die "membership: $!\n";
    bind $sender, pack_sockaddr_in(0, inet_aton($interface)) or die "bind: $!\n";
    setsockopt $sender, IPPROTO_IP, IP_MULTICAST_IF, inet_aton($interface) or die "if: $!\n";
    setsockopt $sender, IPPROTO_IP, IP_MULTICAST_TTL, pack 'i', 1 or die "ttl: $!\n";
    setsockopt $sender, IPPROTO_IP, IP_MULTICAST_LOOP, pack 'i', 1 or die "loop: $!\n";
}

open my $random, '<:raw', '/dev/urandom' or die "/dev/urandom: $!\n";
read $random, my $me, 8;
close $random;

my $counter = 0;         # of our NACK, SESSION and BYE
my %streams;             # sender id => {hi, held, parts, word, ...}: see new_stream
my %gaps;                # sender id => {number => {first, due, asks, tries, word, evidence}}
my %members;             # sender id => {heard, lists => {sender id => [lo, hi]}}
my %least;               # sender id => the least lo that was listed for it, and the largest hi
my %count = map { $_ => 0 } qw(shown duplicates nacks repaired lost late dropped);
my $joined = now();
my ($copies_until, $round) = (0, 0);
my ($tokens, $tokens_at) = (20, $joined);            # of the NACKs that we may send
my ($solicit_wait, $session_due) = (0.1, $name eq '' ? 9e9 : $joined);
my ($answer_due, $asker) = (9e9, NOBODY);
my @echo = (NOBODY, 0, 0);                           # sender, its `sent`, when it was heard

sub now { return clock_gettime(CLOCK_MONOTONIC) }
sub size { return keys(%members) + 1 }
sub least { my ($a, $b) = @_; return $a < $b ? $a : $b }
sub largest { my ($a, $b) = @_; return $a > $b ? $a : $b }

sub drawn {    # the window law
    my ($window) = @_;
    my $n = size();
    return $window * log(1 + rand() * (exp(1) * $n - 1)) / (log($n) + 1);
}

# -- what is sent ----------------------------------------------------------------------------------

sub emit {
    my ($type, $body) = @_;
    my $head = pack 'a2 C C n n a8 N N',
        "\xF5\x45", 0x10 | $type, 0, 0, length $body, $me, $counter++, 0;
    send $sender, $head . $body . blake2b("$place\0$head$body", 16), 0, $group;
}

sub digest {
    my $digest = NOBODY;
    for my $id (keys %streams) {
        my $hi = $streams{$id}{hi};
        $digest ^= blake2b($id . pack('N', $hi), 8) if $hi;
    }
    return $digest;
}

sub say_session {
    my ($now) = @_;
    my @ids = grep { $streams{$_}{hi} } sort { ($b eq $asker) <=> ($a eq $asker) } keys %streams;
    splice @ids, 16 if @ids > 16;
    # We keep nothing to repair from, so we list that we hold nothing: lo is hi.
    my $list = join '', map { pack 'a8 N N', $_, ($streams{$_}{hi}) x 2 } @ids;
    my $held = $echo[0] eq NOBODY ? 0 : int(1e6 * ($now - $echo[2]));
    my $sent = int(1e6 * $now) & 0xFFFFFFFF;
    emit(SESSION, digest() . pack 'N a8 N N C C n C/a C a*',
        $sent, @echo[0, 1], $held, 0, 255, size(), $name, scalar @ids, $list);
    # Who has heard nobody yet solicits, at waits that grow as Trickle's; then T rules.
    my $n = size();
    my $t = largest(6, largest(least(0.4 * $n, 20), 0.15 * $n));
    $session_due = $now + ($echo[0] eq NOBODY ? $solicit_wait : $t * (0.8 + 0.2 * rand()));
    $solicit_wait = least(2 * $solicit_wait, 6);
    ($answer_due, $asker) = (9e9, NOBODY);
}

sub ask {
    my ($now) = @_;
    my $slack = $now + DELAY_S;
    my @due = grep { $_->{due} <= $slack } map { values %$_ } values %gaps;
    return unless grep { $_->{due} <= $now } @due;
    $tokens = least(20, $tokens + 5 * ($now - $tokens_at));
    $tokens_at = $now;
    if ($tokens < 1) {
        $_->{due} = $now + 0.2 for @due;
        return;
    }
    @due = sort { $a->{id} cmp $b->{id} || $a->{seq} <=> $b->{seq} } @due;
    my $to = whom(\@due);
    if ($to ne NOBODY) {
        @due = grep { lists($to, $_->{id}, $_->{seq}) } @due;
        splice @due, BULK_MESSAGES if @due > BULK_MESSAGES;
    }
    my @ranges;
    my $factor = 0.75 + 0.5 * rand();
    for my $gap (@due) {
        if (@ranges && $ranges[-1][0] eq $gap->{id} && $ranges[-1][2] == $gap->{seq}) {
            $ranges[-1][2]++;
        } else {
            last if @ranges == RANGES;
            push @ranges, [$gap->{id}, $gap->{seq}, $gap->{seq} + 1];
        }
        $gap->{asks}++;
        my $tries = ++$gap->{tries};
        my $wait = $tries >= STUCK_ASKS ? 8 : least(1, 12 * DELAY_S * $tries);
        $gap->{due} = $now + $factor * $wait;
    }
    emit(NACK, $to . pack('C', scalar @ranges) . join '', map { pack 'a8 N N', @$_ } @ranges);
    $tokens--;
    $count{nacks}++;
}

# Much is asked of one member that holds it, and every other time of anyone: it may not answer.
sub whom {
    my ($due) = @_;
    return NOBODY if @$due < BULK_GAPS || $due->[0]{tries} % 2;
    my @holders = grep { lists($_, $due->[0]{id}, $due->[0]{seq}) } keys %members;
    return @holders ? $holders[rand @holders] : NOBODY;
}

sub lists {
    my ($member, $id, $seq) = @_;
    my $range = $members{$member}{lists}{$id};
    return $range && $range->[0] <= $seq && $seq < $range->[1];
}

# -- what comes in ---------------------------------------------------------------------------------

sub take_in {
    my ($bytes, $now) = @_;
    return plain($bytes) if substr($bytes, 0, 2) ne "\xF5\x45";
    my $end = length($bytes) - 16;
    return $count{dropped}++ if $end < 24 || $end > 1_200 - 16;
    my (undef, $kind, $flags, $key, $size, $id, $seq) = unpack 'a2 C C n n a8 N', $bytes;
    my $covered = substr $bytes, 0, $end;
    substr $covered, 3, 1, chr($flags & UNDER_TAG);
    if ($kind >> 4 != 1 || $flags & FORBIDDEN || $size != $end - 24 || $key
        || blake2b("$place\0$covered", 16) ne substr $bytes, $end) {
        return $count{dropped}++;
    }
    return if $id eq $me;
    $members{$id}{heard} = $now if $members{$id} && !($flags & RELAYED);
    my $body = substr $bytes, 24, $end - 24;
    my $type = $kind & 0x0F;
    if    ($type == DATA)                 { data($id, $seq, $flags, $body, $now) }
    elsif ($type == NACK)                 { heard_nack($body, $now) }
    elsif ($type == SESSION)              { session($id, $body, $now) }
    elsif ($type == BYE && $body eq '')   { delete $members{$id} }
    else                                  { $count{dropped}++ }
}

sub plain {
    my ($bytes) = @_;
    $bytes =~ s/[\0\r\n]+\z//;
    my $text = eval { decode('UTF-8', $bytes, Encode::FB_CROAK) };
    return $count{dropped}++ if !defined $text || $text eq '' || $text =~ /[\p{C}\p{Zl}\p{Zp}]/;
    print "? $text\n";
}

sub data {
    my ($id, $seq, $flags, $body, $now) = @_;
    return $count{dropped}++ if length $body < 7;
    my ($lamport, $parents) = unpack 'N C', $body;
    my $at = 5 + 12 * $parents;
    return $count{dropped}++ if $parents > 3 || length $body <= $at;
    my $name_end = $at + 1 + ord substr $body, $at, 1;
    return $count{dropped}++ if length $body <= $name_end || length $body > $name_end + 901;
    return if $lose && $seq % $lose == 1 && !($flags & RELAYED);
    my $message = {
        seq => $seq, lamport => $lamport, parents => $parents, more => $flags & MORE,
        name => substr($body, $at + 1, $name_end - $at - 1),
        kind => ord(substr $body, $name_end, 1), text => substr($body, $name_end + 1),
    };
    my $stream = $streams{$id} ||= new_stream($id, $seq, $flags & RELAYED, $now);
    if (delete $stream->{skipped}{$seq}) {
        $count{late}++;
        return show($message, '  [late]', $message->{text});
    }
    return $count{duplicates}++ if $seq < $stream->{hi} || $stream->{held}{$seq};
    return $count{dropped}++ if $seq >= $stream->{hi} + WINDOW || $seq == 0xFFFFFFFF;
    $stream->{held}{$seq} = $message;
    if (remove_gap($id, $seq) && $flags & RELAYED) { $count{repaired}++ }
    if (!($flags & RELAYED)) {
        $stream->{before} = least($stream->{before}, $seq);
        $copies_until = largest($copies_until, $now + 0.008 * ($flags >> 4) + DELAY_S);
    }
    own_word($id, $stream, $seq + 1, $now);
    advance($stream);
}

# hi: the next number to show; word: the next by its sender's own word; before: history is below.
sub new_stream {
    my ($id, $seq, $relayed, $now) = @_;
    my ($lo, $hi) = @{$least{$id} || [0, $seq + 1]};
    my ($base, $before) = (largest(0, $seq + 1 - WINDOW), 0);
    if ($now < $joined + NEWCOMER_S) {
        $base = $history ? least($seq, largest($lo, $seq + 1 - HISTORY)) : $seq;
        $before = $relayed ? largest($hi, $seq + 1) : $seq;
    }
    return {
        hi => $base, word => $base, before => $before, held => {}, parts => [],
        skipped => {}, broken => -1, behind_gap => $base > 0, begun => 0, names_parents => 1,
    };
}

sub advance {
    my ($stream) = @_;
    while (my $message = delete $stream->{held}{$stream->{hi}}) {
        $stream->{hi}++;
        next if rest_of_a_lost_one($stream, $message);
        $stream->{names_parents} &&= $message->{parents} || $stream->{begun};
        $stream->{names_parents} ||= $message->{parents};
        $stream->{begun} = 1;
        push @{$stream->{parts}}, $message;
        next if $message->{more} && @{$stream->{parts}} < PARTS;
        my @parts = splice @{$stream->{parts}};
        my $mark = $message->{seq} < $stream->{before} ? '  [history]' : '';
        show($parts[0], $mark, join '', map { $_->{text} } @parts);
    }
}

# Behind a gap: a part whose message began before or in it.
sub rest_of_a_lost_one {
    my ($stream, $message) = @_;
    my $behind_gap = $stream->{behind_gap};
    $stream->{behind_gap} = 0;
    return 1 if $stream->{broken} == $message->{lamport};
    $stream->{broken} = -1;
    my $simple = $message->{lamport} == $message->{seq} + 1 || !$message->{seq};
    return 0 if !$behind_gap || $message->{parents} || $simple || !$stream->{names_parents};
    $stream->{broken} = $message->{lamport};
    return 1;
}

sub own_word {
    my ($id, $stream, $hi, $now) = @_;
    $stream->{word} = largest($stream->{word}, $hi);
    my $top = least($stream->{word}, $stream->{hi} + WINDOW);
    note_gap($id, $_, 1, $now) for grep { !$stream->{held}{$_} } $stream->{hi} .. $top - 1;
}

sub note_gap {
    my ($id, $seq, $word, $now) = @_;
    my $gap = $gaps{$id}{$seq};
    if ($gap) {
        $gap->{word} ||= $word;
        return;
    }
    my $all = 0;
    $all += keys %$_ for values %gaps;
    return if $all >= GAPS;
    $gaps{$id}{$seq} = {
        id => $id, seq => $seq, first => $now, due => round($now), word => $word, asks => 0,
        tries => 0, evidence => 0,
    };
}

# All gaps that are found during one wait share its end.
sub round {
    my ($now) = @_;
    my $after = largest($now, $copies_until);
    if ($round < $after || $round > $now + 12 * DELAY_S) {
        $round = $after + 2 * DELAY_S + drawn((size() < 200 ? 4 : 8) * DELAY_S);
    }
    return $round;
}

sub remove_gap {
    my ($id, $seq) = @_;
    my $gap = delete $gaps{$id}{$seq};
    delete $gaps{$id} unless %{$gaps{$id}};
    return $gap;
}

sub heard_nack {
    my ($body, $now) = @_;
    return $count{dropped}++ if length $body < 9 || length $body != 9 + 16 * ord substr $body, 8, 1;
    return if substr($body, 0, 8) ne NOBODY;
    my $factor = 0.75 + 0.5 * rand();
    for my $range (ranges(substr $body, 9)) {
        my ($id, $lo, $hi) = @$range;
        for my $gap (values %{$gaps{$id} || {}}) {
            next if $gap->{seq} < $lo || $gap->{seq} >= $hi;
            my $later = $now + $factor * least(1, 12 * DELAY_S * largest(1, $gap->{tries}));
            $gap->{due} = largest($gap->{due}, least($later, $gap->{first} + 2));
        }
    }
}

sub ranges { my ($raw) = @_; return map { [unpack 'a8 N N', $_] } unpack '(a16)*', $raw }

sub session {
    my ($id, $body, $now) = @_;
    return $count{dropped}++ if length $body < 34;
    my ($sent, $ask, $loss, $size, $l) = unpack 'x8 N x16 C C n C', $body;
    return $count{dropped}++ if length $body < 34 + $l;
    return $count{dropped}++ if length $body != 34 + $l + 16 * ord substr $body, 33 + $l, 1;
    # In a small room a newcomer is answered as if it had asked.
    $ask |= 1 if !$members{$id} && size() < GREETED;
    my $member = $members{$id} ||= {lists => {}};
    $member->{heard} = $now;
    @echo = ($id, $sent, $now);
    if ($ask & 1 && $name ne '') {
        $asker = $id if $asker eq NOBODY;
        my $window = largest(0.1, 0.002 * size());
        $answer_due = least($answer_due, $now + $window * rand());
    }
    for my $range (ranges(substr $body, 34 + $l)) {
        my ($of, $lo, $hi) = @$range;
        next if $of eq $me || $hi <= $lo;
        $member->{lists}{$of} = [$lo, $hi];
        listed($of, $lo, $hi, $of eq $id, $now);
    }
}

# A member holds [lo, hi) of sender `of`; `own`: it is that sender.
sub listed {
    my ($of, $lo, $hi, $own, $now) = @_;
    my $stream = $streams{$of};
    if ($stream && $own) {
        own_word($of, $stream, $hi, $now);
    } elsif ($stream) {
        my $start = largest($stream->{word}, $stream->{hi});
        note_gap($of, $_, 0, $now) for $start .. least($hi, $start + HEARSAY) - 1;
    } else {
        my $known = $least{$of} ||= [$lo, $hi];
        @$known = (least($lo, $known->[0]), $hi);
        # Who listens from now on does not ask for what was there before.
        return if !$history && $now < $joined + NEWCOMER_S;
        note_gap($of, $_, 0, $now) for largest($lo, $hi - HEARSAY_UNHEARD) .. $hi - 1;
    }
    for my $gap (values %{$gaps{$of} || {}}) {
        next if $gap->{seq} < $lo || $gap->{seq} >= $hi || $now < $gap->{evidence} + 1;
        $gap->{evidence} = $now;
        $gap->{tries} = 0;
        $gap->{due} = least($gap->{due}, round($now));
    }
}

# -- what is shown, what is given up ---------------------------------------------------------------

sub safe {
    my ($text) = @_;
    $text =~ s/([\x00-\x1f\x7f])/'^' . chr(ord($1) ^ 64)/ge;
    $text =~ s/[\x{80}-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}\x{2028}\x{2029}]/\x{fffd}/g;
    return $text;
}

sub show {
    my ($message, $mark, $bytes) = @_;
    my $who = decode('UTF-8', $message->{name});
    my $text = decode('UTF-8', $bytes);
    $who = '?' if $who eq '' || length $message->{name} > 32 || $who =~ /[\s:\p{C}]/;
    $count{shown}++;
    print $message->{kind} == 1 ? "* $who " : "$who: ", safe($text), "$mark\n";
}

sub give_up {
    my ($now) = @_;
    for my $id (keys %gaps) {
        my $stream = $streams{$id};
        my $lost = 0;
        for my $gap (sort { $a->{seq} <=> $b->{seq} } values %{$gaps{$id}}) {
            my $gone = $gap->{asks} >= GONE_ASKS && $now >= $gap->{first} + GONE_S;
            if (!$stream) {
                remove_gap($id, $gap->{seq}) if $gone;
                next;
            }
            my $old = $gap->{seq} < $stream->{before};
            $gone ||= $old && $gap->{asks} >= STUCK_ASKS && !$gap->{evidence};
            my $left = $gap->{word} && !$members{$id};
            next if !$gone || $gap->{seq} != $stream->{hi} || !(%{$stream->{held}} || $left);
            remove_gap($id, $gap->{seq});
            $stream->{skipped}{$gap->{seq}} = 1;
            $stream->{broken} = $stream->{parts}[0]{lamport} if @{$stream->{parts}};
            @{$stream->{parts}} = ();
            $stream->{hi}++;
            $stream->{behind_gap} = 1;
            $lost++ unless $old;
            advance($stream);
        }
        $count{lost} += $lost;
        print "-- $lost messages are gone --\n" if $lost;
    }
}

sub forget_the_silent {
    my ($now) = @_;
    my $n = size();
    my $t = largest(6, largest(least(0.4 * $n, 20), 0.15 * $n));
    delete @members{grep { $now > $members{$_}{heard} + 3.5 * $t } keys %members};
}

# -- the loop --------------------------------------------------------------------------------------

open_sockets();
$| = 1;
binmode STDOUT, ':encoding(UTF-8)';
print "-- listening --\n";
my $running = 1;
while ($running) {
    my $now = now();
    my $due = least($session_due, $answer_due);
    $due = least($due, $_->{due}) for map { values %$_ } values %gaps;
    my $wanted = '';
    vec($wanted, $_, 1) = 1 for fileno $receiver, fileno $sender, fileno STDIN;
    select my $ready = $wanted, undef, undef, largest(0, least(1, $due - $now));
    $now = now();
    for my $socket ($receiver, $sender) {
        next unless vec $ready, fileno $socket, 1;
        take_in($_, $now) if defined recv $socket, $_, 2_048, 0;
    }
    $running = sysread STDIN, my $ignored, 4_096 if vec $ready, fileno STDIN, 1;
    forget_the_silent($now);
    give_up($now);
    ask($now);
    say_session($now) if $now >= $session_due || $now >= $answer_due;
}
if ($name ne '') {
    for (1 .. 3) {
        emit(BYE, '');
        select undef, undef, undef, 0.05 if $_ < 3;
    }
}
print "-- ", join(' ', map { "$_=$count{$_}" } sort keys %count), " --\n";
