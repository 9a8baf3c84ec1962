#!/bin/sh
# Look-alikes of photographs, with nothing but curl: a zip for each, with the images and a manifest.json. It is called as
# the photograph is; a second one of that name gets -2 to it.
#
#   examples/look-alikes.sh FOLDER PHOTOGRAPH...
#
# Environment: ADDRESS of the service, KEY where it wants one, COUNT of look-alikes each.
# Exit status: 0 when every photograph was used, 1 when some were refused (why is on standard error), 2 for a wrong call.
set -u

if [ $# -lt 2 ]; then
    echo "usage: $0 FOLDER PHOTOGRAPH..." >&2
    exit 2
fi
folder=$1
shift
mkdir -p "$folder" || exit 2
refused=0
taken=/
for photograph in "$@"; do
    name=$(basename -- "$photograph")
    name=${name%.*}
    unique=$name
    number=1
    while case $taken in *"/$unique/"*) true ;; *) false ;; esac; do
        number=$((number + 1))
        unique=$name-$number
    done
    taken=$taken$unique/
    zip=$folder/$unique.zip
    # Between quotes curl wants a backslash before these.
    quoted=$(printf '%s' "$photograph" | sed 's/[\\"]/\\&/g')
    # --retry heeds Retry-After, which a busy service sends with 429 and 503.
    if ! status=$(curl --silent --show-error --retry 3 --max-time 120 --output "$zip.part" --write-out '%{http_code}' \
            ${KEY:+--header "Authorization: Bearer $KEY"} --header 'Accept: application/zip' \
            --form "image=@\"$quoted\"" --form "count=${COUNT:-8}" "${ADDRESS:-http://127.0.0.1:8000}/v1/variants"); then
        echo "$photograph: there is no answer" >&2
        refused=1
    elif [ "$status" = 200 ]; then
        mv "$zip.part" "$zip" && echo "$zip" || refused=1
    else
        # The answer says in its "detail" what is wrong with the photograph.
        echo "$photograph: $status $(sed -n 's/.*"detail": *"\([^"]*\)".*/\1/p' "$zip.part")" >&2
        refused=1
    fi
    rm -f "$zip.part"
done
exit $refused
