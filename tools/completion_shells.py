"""The parts of contrib/completion that do not depend on commands and options, as templates."""

from __future__ import annotations

NOTE = "# Made by `python3 -m tools.completion` from the commands and options: do not edit."

# Only what compgen -W is given would be expanded by bash; here nothing is: each candidate is
# compared and, where it comes from a file or a room, quoted.
BASH = r"""{note}
# bash: source this file, or install it as /usr/share/bash-completion/completions/evloop with links
# to it called evloop-client and evloop-server.

_evloop_fits() {{  # those of the words given that begin with what is typed
    local one
    for one in "$@"; do
        if [[ $one == "$word"* ]]; then COMPREPLY+=("$one"); fi
    done
}}

_evloop_files() {{
    local one
    compopt -o filenames 2>/dev/null
    while IFS= read -r one; do COMPREPLY+=("$one"); done < <(compgen -f -- "$word")
}}

_evloop_rooms() {{
    local one from=${{COMP_WORDS[0]%/*}}/
    [[ ${{COMP_WORDS[0]}} == */* ]] || from=
    while read -r one _; do
        if [[ $one == "$word"* ]]; then COMPREPLY+=("$(printf %q "$one")"); fi
    done < <(timeout 2 "${{from}}evloop-client" "${{server[@]}}" getdir 2>/dev/null </dev/null)
}}

# Sets `command`, the number of its `arguments` before the cursor, and the option `before` it that
# wants a value. An equals sign is a word of its own.
_evloop_look() {{
    local i one wants=
    command= arguments=0 before= server=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        one=${{COMP_WORDS[i]}}
        if [[ $one == = ]]; then continue; fi
        if [[ -n $wants ]]; then
            if [[ $wants == --server ]]; then server=(--server "$one"); fi
            wants=
        elif [[ $one == -* ]]; then
            if [[ " $1 " == *" $one "* ]]; then wants=$one; fi
        elif [[ -z $command ]]; then
            command=$one
        else
            arguments=$((arguments + 1))
        fi
    done
    before=$wants
    if [[ $word == = ]]; then word=; fi
}}

_evloop_client() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command arguments before own= server
    COMPREPLY=()
    _evloop_look "{client_valued}"
    case $before in
{client_values}
    esac
    case $command in
{own}
    esac
    if [[ $word == -* ]]; then
        if [[ $command == say ]]; then _evloop_fits $own; return 0; fi
        _evloop_fits $own {client_options}
    elif [[ -z $command ]]; then
        _evloop_fits {commands}
    elif ((arguments == 0)); then
        case $command in
        {rooms}) _evloop_rooms ;;
        {help}) _evloop_fits {prompt} ;;
        esac
    fi
}}

_evloop_server() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command arguments before server
    COMPREPLY=()
    _evloop_look "{server_valued}"
    case $before in
{server_values}
    esac
    _evloop_fits {server_options}
}}

complete -F _evloop_client {clients}
complete -F _evloop_server {server}
"""

ZSH = r"""#compdef {programs}
{note}
# zsh: put this file into a folder of $fpath, for example /usr/local/share/zsh/site-functions.

local -a client server commands
client=(
{client_options}
)
server=(
{server_options}
)
commands=(
{commands}
)

_evloop_rooms() {{
    local -a rooms
    local program=evloop-client
    [[ $asked_by == */* ]] && program=${{asked_by:h}}/$program
    local one rest
    while read -r one rest; do
        rooms+=("$one")
    done < <(timeout 2 $program $at getdir 2>/dev/null </dev/null)
    compadd "$@" -a rooms
}}

if [[ $service == {server} ]]; then
    _arguments "$server[@]"
    return
fi

local curcontext=$curcontext state line asked_by=$words[1]
local -a at
typeset -A opt_args
_arguments -C "$client[@]" '1:command:->command' '*::argument:->argument'
[[ -n $opt_args[--server] ]] && at=(--server ${{opt_args[--server]//\\:/:}})
case $state in
command) _describe command commands ;;
argument)
    case $words[1] in
{cases}
    esac
    ;;
esac
"""

FISH = r"""{note}
# fish: put this file into a folder of $fish_complete_path, for example
# /usr/share/fish/vendor_completions.d.

function __evloop_words --description 'The words before the cursor that are no options'
    set -l wants no
    for one in (commandline -opc)[2..-1]
        if test $wants = yes
            set wants no
        else if string match -q -- '-*' $one
            contains -- $one {valued}; and set wants yes
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
"""
