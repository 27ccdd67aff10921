#!/bin/sh
# Run an image's root folder as docker-compose.production.yml runs it: read-only root, /tmp in memory, user 1000, no
# capabilities, no new privileges, processes of its own. For machines without a container engine; needs root.
#
#   harden.sh ROOT DATA WORKING_FOLDER VARIABLE=VALUE... COMMAND...
set -eu
if [ "$1" != --inside ]; then
    exec unshare --mount --pid --ipc --uts --fork --kill-child "$0" --inside "$@"
fi
root=$2 data=$3 folder=$4
shift 4
mount --make-rprivate /
mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/dev" "$root/tmp" "$root/data"
mount --bind "$data" "$root/data"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o size=1g,mode=1777 tmpfs "$root/tmp"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs --inh-caps=-all \
    --bounding-set=-all env -i --chdir="$folder" "$@"
