#!/bin/sh
# Written by postern image customise; runs once, at the first boot.
exec >>/var/log/postern-firstrun.log 2>&1
set +e
/usr/lib/raspberrypi-sys-mods/imager_custom set_hostname 'greenhouse'
/usr/lib/userconf-pi/userconf 'ada' '$2a$10$abcdefghijklmnopqrstuuKl2nO1x3Fz7m8Yb6c5d4e3f2g1h0i9jK'
/usr/lib/raspberrypi-sys-mods/imager_custom enable_ssh -k 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJb1oQ0fRr2hOaSCHGhTPqCDQ0zBOlvq9X9r0Hb2kQpV ada'"'"'s "laptop" \ $HOME `id`'
/usr/lib/raspberrypi-sys-mods/imager_custom set_wlan -h 'Ada'"'"'s "Garden" \$x' 'a2db3082ce3f6a430deeda62a91f6fe6fd20765fb8a64b1c337cf261d99a8db8' 'DE'
/usr/lib/raspberrypi-sys-mods/imager_custom set_timezone 'Europe/Berlin'
echo i2c-dev >/etc/modules-load.d/postern.conf
for boot in /boot/firmware /boot; do
  if [ -f $boot/postern/firstboot.sh ]; then sh $boot/postern/firstboot.sh; break; fi
done
rm -f /boot/firstrun.sh
sed -i 's| systemd\.[^ ]*||g' /boot/cmdline.txt
exit 0
