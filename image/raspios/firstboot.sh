#!/bin/sh
# Written by postern image customise: installs the gateway from the boot
# partition, and removes what it was installed from, which may hold secrets.
# It can be run again: sudo sh /boot/firmware/postern/firstboot.sh
set -eu
from=$(dirname "$(readlink -f "$0")")
exec >>/var/log/postern-firstboot.log 2>&1
set -x

export DEBIAN_FRONTEND=noninteractive
for deb in "$from"/*.deb; do
	dpkg --force-confold --install "$deb"
done
if [ -d "$from/etc" ]; then
	for file in "$from"/etc/*; do
		name=$(basename "$file")
		case $name in
		postern.yaml) install -o root -g postern -m 0640 "$file" "/etc/postern/$name" ;;
		*) install -o postern -g postern -m 0600 "$file" "/etc/postern/$name" ;;
		esac
	done
fi
if [ -d /run/systemd/system ]; then
	systemctl --no-block restart postern.service
fi
rm -rf "$from"
sync
