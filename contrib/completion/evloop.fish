# Made by `python3 -m tools.completion` from the commands and options: do not edit.
# fish: put this file into a folder of $fish_complete_path, for example
# /usr/share/fish/vendor_completions.d.

function __evloop_words --description 'The words before the cursor that are no options'
    set -l wants no
    for one in (commandline -opc)[2..-1]
        if test $wants = yes
            set wants no
        else if string match -q -- '-*' $one
            contains -- $one --server --name --interface --ttl --relay --key-file --tls-ca --tls-cert --tls-key --time --color --escape --mode --mode --mode --timeout -n --mode --tls-cert --tls-key; and set wants yes
        else
            echo $one
        end
    end
end

function __evloop_at --description 'Whether the command is the one given, or there is none'
    set -l words (__evloop_words)
    test "$words[1]" = "$argv[1]"
end

function __evloop_first_of --description 'Whether one of these commands has no argument yet'
    set -l words (__evloop_words)
    test (count $words) = 1; and contains -- $words[1] $argv
end

function __evloop_rooms --description 'The rooms of the directory'
    set -l words (commandline -opc)
    set -l program (string replace -r '[^/]*$' evloop-client -- $words[1])
    set -l server
    set -l i (contains -i -- --server $words); and set server --server $words[(math $i + 1)]
    timeout 2 $program $server getdir 2>/dev/null </dev/null | while read -l name rest
        echo $name
    end
end

complete -c evloop -f
complete -c evloop -n 'not __evloop_at say' -s h -l help -d 'show this help message and exit'
complete -c evloop -n 'not __evloop_at say' -l server -x -d 'the directory; more are tried in their order (default: 127.0.0.1:44444, else the one that answers on the network)'
complete -c evloop -n 'not __evloop_at say' -l name -x -d 'your chat name (default: the last one given, else $USER)'
complete -c evloop -n 'not __evloop_at say' -l interface -x -a '(command ls /sys/class/net 2>/dev/null)' -d 'the network interface for multicast'
complete -c evloop -n 'not __evloop_at say' -l ttl -x -d 'how far multicast may go (default 1: this link)'
complete -c evloop -n 'not __evloop_at say' -l relay -x -a 'auto always never' -d 'whether the directory carries the room where multicast does not (default auto)'
complete -c evloop -n 'not __evloop_at say' -l key-file -r -F -d 'the key of the sealed room, in its first line'
complete -c evloop -n 'not __evloop_at say' -l tls -d 'speak TLS with the directory; trust it on first use'
complete -c evloop -n 'not __evloop_at say' -l tls-ca -r -F -d 'trust only directories that this authority signed (PEM)'
complete -c evloop -n 'not __evloop_at say' -l tls-cert -r -F -d 'show this certificate to a directory that asks (PEM)'
complete -c evloop -n 'not __evloop_at say' -l tls-key -r -F -d 'its key, where it is not in the same file'
complete -c evloop -n 'not __evloop_at say' -l plain -d 'no line editor: for screen readers, slow terminals'
complete -c evloop -n 'not __evloop_at say' -l slow -d 'draw as for a slow line'
complete -c evloop -n 'not __evloop_at say' -l wide -d 'Greek, arrows... take two columns (CJK terminals)'
complete -c evloop -n 'not __evloop_at say' -l time -x -a 'off HH:MM iso' -d 'time stamps (default HH:MM, off in pipes)'
complete -c evloop -n 'not __evloop_at say' -l color -x -a 'auto always never'
complete -c evloop -n 'not __evloop_at say' -l escape -x -d 'leaves the room (default ^])'
complete -c evloop -n 'not __evloop_at say' -l no-history -d 'keep no history of typed lines, and no name'
complete -c evloop -n 'not __evloop_at say' -l no-announce -d 'host unannounced (python3 -m evloop)'
complete -c evloop -n 'not __evloop_at say' -l json -d 'one JSON object a line'
complete -c evloop -n 'not __evloop_at say' -l debug -d 'show the trace of an internal error'
complete -c evloop -n 'not __evloop_at say' -l version -d 'show program\'s version number and exit'
complete -c evloop -n '__evloop_at' -a directories -d 'list the directories of this network'
complete -c evloop -n '__evloop_at' -a getdir -d 'list the rooms'
complete -c evloop -n '__evloop_at' -a makeroom -d 'make a room, with a key or a history if need be'
complete -c evloop -n '__evloop_at makeroom' -l mode -x -a 'reliable plain sealed'
complete -c evloop -n '__evloop_at makeroom' -l sealed
complete -c evloop -n '__evloop_at makeroom' -l passphrase
complete -c evloop -n '__evloop_at makeroom' -l keep
complete -c evloop -n '__evloop_at' -a deleteroom -d 'remove a room; --yes: even if others are in it'
complete -c evloop -n '__evloop_at deleteroom' -l yes
complete -c evloop -n '__evloop_at' -a chat -d 'talk in rooms; ADDRESS:PORT needs no directory'
complete -c evloop -n '__evloop_at chat' -l mode -x -a 'reliable plain sealed'
complete -c evloop -n '__evloop_at' -a key -d 'show the key of a sealed room, or take another'
complete -c evloop -n '__evloop_at key' -l set
complete -c evloop -n '__evloop_at key' -l new
complete -c evloop -n '__evloop_at key' -l forget
complete -c evloop -n '__evloop_at' -a say -d 'send lines; wait until they are confirmed'
complete -c evloop -n '__evloop_at say' -l mode -x -a 'reliable plain sealed'
complete -c evloop -n '__evloop_at say' -l timeout -x
complete -c evloop -n '__evloop_at say' -l anybody
complete -c evloop -n '__evloop_at' -a tail -d 'follow a room, after its last N messages'
complete -c evloop -n '__evloop_at tail' -s n -x
complete -c evloop -n '__evloop_at tail' -l mode -x -a 'reliable plain sealed'
complete -c evloop -n '__evloop_at' -a irc -d 'let IRC clients in (default 127.0.0.1:6667)'
complete -c evloop -n '__evloop_at irc' -l no-make
complete -c evloop -n '__evloop_at irc' -l no-share
complete -c evloop -n '__evloop_at irc' -l tls-cert -x
complete -c evloop -n '__evloop_at irc' -l tls-key -x
complete -c evloop -n '__evloop_at' -a doctor -d 'find out why nobody is heard, and what to do'
complete -c evloop -n '__evloop_at doctor' -l watch
complete -c evloop -n '__evloop_at' -a help -d 'list the commands, or explain one'
complete -c evloop -n '__evloop_first_of deleteroom chat key say tail doctor' -a '(__evloop_rooms)'
complete -c evloop -n '__evloop_first_of help' -a 'connect directories bye name getdir makeroom deleteroom chat key invite doctor help quit'
