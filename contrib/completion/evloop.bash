# Made by `python3 -m tools.completion` from the commands and options: do not edit.
# bash: source this file, or install it as /usr/share/bash-completion/completions/evloop with links
# to it called evloop-client and evloop-server.

_evloop_fits() {  # those of the words given that begin with what is typed
    local one
    for one in "$@"; do
        if [[ $one == "$word"* ]]; then COMPREPLY+=("$one"); fi
    done
}

_evloop_files() {
    local one
    compopt -o filenames 2>/dev/null
    while IFS= read -r one; do COMPREPLY+=("$one"); done < <(compgen -f -- "$word")
}

_evloop_rooms() {
    local one from=${COMP_WORDS[0]%/*}/
    [[ ${COMP_WORDS[0]} == */* ]] || from=
    while read -r one _; do
        if [[ $one == "$word"* ]]; then COMPREPLY+=("$(printf %q "$one")"); fi
    done < <(timeout 2 "${from}evloop-client" "${server[@]}" getdir 2>/dev/null </dev/null)
}

# Sets `command`, the number of its `arguments` before the cursor, and the option `before` it that
# wants a value. An equals sign is a word of its own.
_evloop_look() {
    local i one wants=
    command= arguments=0 before= server=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        one=${COMP_WORDS[i]}
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
}

_evloop_client() {
    local word=${COMP_WORDS[COMP_CWORD]} command arguments before own= server
    COMPREPLY=()
    _evloop_look "--server --name --interface --ttl --relay --key-file --tls-ca --tls-cert --tls-key --time --color --escape --mode --timeout -n --tls-cert --tls-key"
    case $before in
        --server) :; return 0 ;;
        --name) :; return 0 ;;
        --interface) _evloop_fits $(command ls /sys/class/net 2>/dev/null); return 0 ;;
        --ttl) :; return 0 ;;
        --relay) _evloop_fits auto always never; return 0 ;;
        --key-file) _evloop_files; return 0 ;;
        --tls-ca) _evloop_files; return 0 ;;
        --tls-cert) _evloop_files; return 0 ;;
        --tls-key) _evloop_files; return 0 ;;
        --time) _evloop_fits off HH:MM iso; return 0 ;;
        --color) _evloop_fits auto always never; return 0 ;;
        --escape) :; return 0 ;;
        --mode) _evloop_fits reliable plain sealed; return 0 ;;
        --timeout) :; return 0 ;;
        -n) :; return 0 ;;
        --tls-cert) :; return 0 ;;
        --tls-key) :; return 0 ;;
    esac
    case $command in
        makeroom) own='--mode --sealed --passphrase --keep' ;;
        deleteroom) own='--yes' ;;
        chat) own='--mode' ;;
        key) own='--set --new --forget' ;;
        say) own='--mode --timeout --anybody' ;;
        tail) own='-n --mode' ;;
        irc) own='--no-make --no-share --tls-cert --tls-key' ;;
        doctor) own='--watch' ;;
    esac
    if [[ $word == -* ]]; then
        if [[ $command == say ]]; then _evloop_fits $own; return 0; fi
        _evloop_fits $own -h --help --server --name --interface --ttl --relay --key-file --tls --tls-ca --tls-cert --tls-key --plain --slow --wide --time --color --escape --no-history --no-announce --json --debug --version
    elif [[ -z $command ]]; then
        _evloop_fits directories getdir makeroom deleteroom chat key say tail irc doctor help
    elif ((arguments == 0)); then
        case $command in
        deleteroom|chat|key|say|tail|doctor) _evloop_rooms ;;
        help) _evloop_fits connect directories bye name getdir makeroom deleteroom chat key invite doctor help quit ;;
        esac
    fi
}

_evloop_server() {
    local word=${COMP_WORDS[COMP_CWORD]} command arguments before server
    COMPREPLY=()
    _evloop_look "--listen --interface --name --state --backup --max-clients --max-per-address --max-rooms --rooms-per-address --change-rate --relay --relay-members --ttl --delete --keep --keep-days --keep-file --expire --tls-cert --tls-key --tls-client-ca --make-cert --metrics-file --stats-from --cluster --directory --site --import --cluster-ca --cluster-cert --cluster-key --cluster-user --cluster-password-file --bridge --bridge-ca --bridge-cert --bridge-key --bridge-user --bridge-password-file"
    case $before in
        --listen) :; return 0 ;;
        --interface) _evloop_fits $(command ls /sys/class/net 2>/dev/null); return 0 ;;
        --name) :; return 0 ;;
        --state) _evloop_files; return 0 ;;
        --backup) _evloop_files; return 0 ;;
        --max-clients) :; return 0 ;;
        --max-per-address) :; return 0 ;;
        --max-rooms) :; return 0 ;;
        --rooms-per-address) :; return 0 ;;
        --change-rate) :; return 0 ;;
        --relay) _evloop_fits on off; return 0 ;;
        --relay-members) :; return 0 ;;
        --ttl) :; return 0 ;;
        --delete) _evloop_fits anyone owner; return 0 ;;
        --keep) _evloop_fits none marked all; return 0 ;;
        --keep-days) :; return 0 ;;
        --keep-file) _evloop_files; return 0 ;;
        --expire) :; return 0 ;;
        --tls-cert) _evloop_files; return 0 ;;
        --tls-key) _evloop_files; return 0 ;;
        --tls-client-ca) _evloop_files; return 0 ;;
        --make-cert) _evloop_files; return 0 ;;
        --metrics-file) _evloop_files; return 0 ;;
        --stats-from) :; return 0 ;;
        --cluster) :; return 0 ;;
        --directory) :; return 0 ;;
        --site) :; return 0 ;;
        --import) _evloop_files; return 0 ;;
        --cluster-ca) _evloop_files; return 0 ;;
        --cluster-cert) _evloop_files; return 0 ;;
        --cluster-key) _evloop_files; return 0 ;;
        --cluster-user) :; return 0 ;;
        --cluster-password-file) _evloop_files; return 0 ;;
        --bridge) :; return 0 ;;
        --bridge-ca) _evloop_files; return 0 ;;
        --bridge-cert) _evloop_files; return 0 ;;
        --bridge-key) _evloop_files; return 0 ;;
        --bridge-user) :; return 0 ;;
        --bridge-password-file) _evloop_files; return 0 ;;
    esac
    _evloop_fits -h --help --listen --interface --name --no-announce --no-probe --state --memory --backup --max-clients --max-per-address --max-rooms --rooms-per-address --change-rate --relay --relay-members --ttl --delete --keep --keep-days --keep-file --expire --tls-cert --tls-key --tls-client-ca --make-cert --metrics-file --stats-from --cluster --directory --site --import --cluster-ca --cluster-cert --cluster-key --cluster-user --cluster-password-file --bridge --bridge-ca --bridge-cert --bridge-key --bridge-user --bridge-password-file --quiet -v --verbose --debug --version
}

complete -F _evloop_client evloop evloop-client
complete -F _evloop_server evloop-server
