#!/bin/sh
# Creates deploy/.env from deploy/.env.example with new random secrets, readable by you alone.
# An existing deploy/.env is left unchanged.
set -eu
umask 077
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo "deploy/.env already exists; nothing was changed."
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
echo "Created deploy/.env. Next: write your addresses and the values from usher connect into it."
