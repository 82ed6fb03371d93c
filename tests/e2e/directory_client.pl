#!/usr/bin/perl
# A client of evloop's directory, written from docs/directory-protocol.md alone: it shows that the
# page is enough. Core modules of Perl only.
#
#   perl directory_client.pl HOST PORT
#
# It prints one line for each thing that it did or was told, waits until the server ends the
# connection, and exits 0. It dies when the server does anything that the page does not say.

use strict;
use warnings;
use utf8;
use IO::Socket::INET;
use JSON::PP;

use constant PAYLOAD_BYTES_MAX => 65_536;
use constant PATIENCE_S        => 30;

my ( $host, $port ) = @ARGV;
die "usage: directory_client.pl HOST PORT\n" unless defined $port;

binmode STDOUT, ':encoding(UTF-8)';
$| = 1;
$SIG{ALRM} = sub { die "the server has not answered for ${\PATIENCE_S} s\n" };

my $json = JSON::PP->new->utf8->canonical;    # to and from bytes in UTF-8
my $sock = IO::Socket::INET->new( PeerAddr => $host, PeerPort => $port, Proto => 'tcp' )
  or die "connect $host:$port: $@\n";
binmode $sock;

my $buffer  = '';
my $next_id = 0;
my %rooms;      # name -> room object: the list, kept true by notifications
my %tokens;     # name -> owner token, where the directory gives one
my @told;       # what notifications said, in their order
my $version;    # that of the last change told
my $goodbye;    # the reason of `closing`

# -- frames and messages --

sub send_payload {
    my ($payload) = @_;
    my $frame = pack( 'N', length $payload ) . $payload;
    while ( length $frame ) {
        my $sent = syswrite $sock, $frame;
        die "write: $!\n" unless defined $sent;
        substr $frame, 0, $sent, '';
    }
    return;
}

# The next message of the server; undef when it has ended the connection.
sub receive {
    alarm PATIENCE_S;
    while (1) {
        if ( length $buffer >= 4 ) {
            my $length = unpack 'N', $buffer;
            die "a frame of $length bytes\n" if $length > PAYLOAD_BYTES_MAX;
            if ( length $buffer >= 4 + $length ) {
                my $payload = substr $buffer, 4, $length;
                substr $buffer, 0, 4 + $length, '';
                alarm 0;
                return $json->decode($payload);
            }
        }
        my $got = sysread $sock, $buffer, 65_536, length $buffer;
        die "read: $!\n" unless defined $got;
        if ( !$got ) {
            die "the connection ended inside a frame\n" if length $buffer;
            alarm 0;
            return;
        }
    }
}

# Take a notification: the list of rooms follows it.
sub take_notification {
    my ($message) = @_;
    my ( $method, $params ) = @{$message}{qw(method params)};
    if ( $method eq 'closing' ) {
        $goodbye = $params->{reason};
        return;
    }
    return unless $method eq 'room_made' or $method eq 'room_deleted';
    die "version $params->{version} follows $version\n" if $params->{version} != $version + 1;
    $version = $params->{version};
    my $name = $params->{room}{name};
    if   ( $method eq 'room_made' ) { $rooms{$name} = $params->{room} }
    else                            { delete $rooms{$name} }
    push @told, "$method $name";
    return;
}

# The next message that is no notification.
sub reply {
    while (1) {
        my $message = receive();
        die "the server ended the connection\n" unless defined $message;
        return $message if ref $message eq 'ARRAY' or !exists $message->{method};
        take_notification($message);
    }
}

sub request {
    my ( $method, $params ) = @_;
    my %message = ( jsonrpc => '2.0', id => ++$next_id, method => $method );
    $message{params} = $params if defined $params;
    return \%message;
}

# Ask, and return the reply to it.
sub ask {
    my ( $method, $params ) = @_;
    send_payload( $json->encode( request( $method, $params ) ) );
    my $reply = reply();
    die "a reply to another request\n" if !defined $reply->{id} or $reply->{id} != $next_id;
    return $reply;
}

# The result of what must succeed.
sub result {
    my ( $method, $params ) = @_;
    my $reply = ask( $method, $params );
    die "$method: $reply->{error}{message}\n" if exists $reply->{error};
    return $reply->{result};
}

# Print what an error says to a program.
sub refused {
    my ($reply) = @_;
    my $error = $reply->{error} or die "it was not refused\n";
    my $data  = $error->{data} || {};
    my @more  = map { "$_=$data->{$_}" } grep { $_ ne 'reason' } sort keys %{$data};
    print join( ' ', 'refused', $error->{code}, $data->{reason} || '-', @more ), "\n";
    return;
}

# -- what a client does --

my $hello = result( 'hello', { client => 'directory_client.pl/1', name => 'Perl' } );
die "protocol $hello->{protocol}\n" if $hello->{protocol} != 1;
print "server $hello->{server}\n";

$version = result('watch')->{version};
die "nobody else is here\n" if $version != $hello->{version};

# Rooms, all asked for at once; the replies come in the order of the requests.
my @names  = ( 'Größe', map { "perl-$_" } 1 .. 7 );
my $number = 0;
for my $name (@names) {
    $number++;
    my $params = { name => $name, address => "239.255.7.$number", port => 5000 + $number };
    send_payload( $json->encode( request( 'makeroom', $params ) ) );
}
for my $name (@names) {
    my $result = reply()->{result} or die "makeroom $name failed\n";
    my $room   = $result->{room};
    $tokens{$name} = $result->{token} if exists $result->{token};
    die "$room->{name} is not $name\n" if $room->{name} ne $name;
    print "made $name $room->{address} $room->{port} $room->{mode}\n";
}
my $picked = result( 'makeroom', { name => 'perl-anywhere', mode => 'plain' } );
$tokens{'perl-anywhere'} = $picked->{token} if exists $picked->{token};
print "picked $picked->{room}{name} $picked->{room}{mode}\n";
print "told $_\n" for splice @told;
print scalar( keys %tokens ), " tokens\n";

# The list, page by page.
my $after;
do {
    my $page = result( 'getdir', { limit => 4, defined $after ? ( after => $after ) : () } );
    my @page = @{ $page->{rooms} };
    die "a page without rooms is not the last\n" if defined $page->{next} and !@page;
    $rooms{ $_->{name} } = $_ for @page;
    print join( ' ', 'page', map { $_->{name} } @page ), "\n";
    $after = $page->{next};
} while ( defined $after );
print scalar( keys %rooms ), " rooms\n";

# Being in a room: any name with the same fold is good.
print 'inside ', result( 'enter', { name => 'PERL-1' } )->{room}{members}, "\n";

# What is refused, and what is no request.
refused( ask( 'makeroom', { name => 'GRÖSSE' } ) );
refused( ask( 'makeroom', { name => 'perl-8', address => '239.255.7.2', port => 5002 } ) );
refused( ask( 'makeroom', { name => 'perl-8', topic => 'tea' } ) );
refused( ask( 'getdir', { limit => 0 } ) );
refused( ask( 'enter', { name => 'nowhere' } ) );
refused( ask('nonsense') );
send_payload('{"jsonrpc":');
refused( reply() );

# A batch, with a notification in it.
my $alone = { jsonrpc => '2.0', method => 'leave', params => { name => 'perl-1' } };
my @batch = ( request('ping'), $alone, request( 'enter', { name => 'perl-1' } ) );
send_payload( $json->encode( \@batch ) );
print 'batch ', join( ' ', map { exists $_->{result} ? 'good' : 'bad' } @{ reply() } ), "\n";
result( 'leave', { name => 'perl-1' } );

# A room with an owner is not deleted without its token.
if ( exists $tokens{'perl-1'} ) {
    refused( ask( 'deleteroom', { name => 'perl-1' } ) );
}
for my $name (qw(perl-1 perl-2)) {
    my $token = $tokens{$name};
    my %proof = defined $token ? ( token => $token ) : ();
    my $gone  = result( 'deleteroom', { name => $name, %proof } );
    print "deleted $gone->{room}{name} members $gone->{room}{members}\n";
}
print "told $_\n" for splice @told;
print scalar( keys %rooms ), " rooms\n";
refused( ask( 'deleteroom', { name => 'perl-1' } ) );

# Then the server ends, and says why.
print "waiting\n";
alarm PATIENCE_S;
while ( defined( my $message = receive() ) ) {
    take_notification($message);
}
print 'closing ', defined $goodbye ? $goodbye : '-', "\n";
exit 0;
