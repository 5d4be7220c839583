#!/bin/sh
# Instances that are directories below $DIRECTORIES: what an instance plugin has to do, in shell.
# Start it with
#   mkdir /var/lib/directories
#   DIRECTORIES=/var/lib/directories infrakit plugin start exec:dirs --set program=/path/to/directories.sh
set -eu
: "${DIRECTORIES:?the directory of the instances}"
# It must be there: an empty one in its place, such as a disk that is not mounted, would say that all are gone.
cd "$DIRECTORIES"

case "$1 ${2:-}" in
"interfaces ")
    echo instance tokens
    ;;
"instance validate")
    # Any properties are valid: they are only stored.
    ;;
"instance provision")
    # The token makes the name, so that the second call with it finds what the first one made.
    token=${3:-$(date +%s%N)}
    id=dir-$token
    case $id in */*) echo "not a token: $token" >&2; exit 65 ;; esac
    if [ ! -d "$id" ]; then
        # Whole, or not at all: only a directory that is complete gets its name.
        half=$(mktemp -d .half-XXXXXX)
        cat >"$half/spec"
        : >"$half/labels"
        mv -T "$half" "$id" 2>/dev/null || rm -r "$half"
    fi
    [ -f "$id/spec" ] || { echo "$id was not made" >&2; exit 1; }
    echo "$id"
    ;;
"instance label")
    case $3 in */*) exit 66 ;; esac
    [ -d "$3" ] || { echo "no such directory: $3" >&2; exit 66; }
    labels=$(cat)
    # In one write: two at once do not mix.
    printf ',%s\n' "$labels" >>"$3/labels"
    ;;
"instance destroy")
    case $3 in */*) exit 66 ;; dir-*) ;; *) echo "no directory of mine: $3" >&2; exit 66 ;; esac
    rm -rf "./$3"
    ;;
"instance describe")
    for id in dir-*; do
        # Destroyed meanwhile, or none at all.
        spec=$(cat "$id/spec" 2>/dev/null) || continue
        labels=$(cat "$id/labels" 2>/dev/null) || continue
        printf '{"ID": "%s", "Spec": %s, "Labels": [{}%s], "State": {"Status": "Running"}}\n' "$id" "$spec" "$labels"
    done
    ;;
*)
    # Whatever else there is: nothing of ours.
    exit 64
    ;;
esac
