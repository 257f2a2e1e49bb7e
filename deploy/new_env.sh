#!/bin/sh
# Makes deploy/.env from deploy/.env.example, with secrets of its own that nobody has seen.
# Readable by you alone; an existing one is left as it is.
set -eu
umask 077
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo "deploy/.env is there already; nothing was changed."
    exit 0
fi
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_'; }
{
    cat .env.example
    echo "POSTGRES_PASSWORD=$(random | tr -d '=')"
    echo "SECRET_KEY=$(random | tr -d '=')$(random | tr -d '=')"
    echo "USHER_ENCRYPTION_KEYS=$(random)"
} >.env.new
mv .env.new .env
echo "Made deploy/.env. Write your addresses and the LMS's values into it."
