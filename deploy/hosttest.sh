#!/bin/sh
# Test the agent on a real host: deploy/hosttest.sh [SUITE] [PYTEST-ARGUMENT...]
# A Debian of that suite (trixie, forky) with systemd, cgroup version 2, AppArmor and a containerd of its own boots in
# QEMU; tests/hosts installs the agent there as docs/operating.md says. The image is made once, in .hosttest/SUITE.
# HOSTTEST_ACCEL=kvm is fast where /dev/kvm works; without it the machine is emulated, and slow.
set -eu
cd "$(dirname "$0")/.."
suite=${1:-trixie}
[ $# -eq 0 ] || shift
folder=$PWD/.hosttest/$suite
root=$folder/root
PACKAGES=systemd-sysv,dbus,udev,linux-image-cloud-amd64,containerd,runc,containernetworking-plugins,apparmor,python3,\
python3-venv,python3-dev,gcc,libc6-dev,iproute2,iptables,procps,ca-certificates,kmod,openssh-server

say() { printf 'hosttest: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

packages() {
    missing=
    for pair in qemu-system-x86:qemu-system-x86_64 mmdebstrap:mmdebstrap openssh-client:ssh e2fsprogs:mke2fs; do
        command -v "${pair#*:}" >/dev/null || missing="$missing ${pair%%:*}"
    done
    [ -n "$missing" ] || return 0
    say "installing$missing"
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends $missing >/dev/null
}

debian() {
    say "making a Debian $suite in $folder (some minutes, once)"
    # Mirrors of suites that are not released yet may be some days old.
    mmdebstrap --quiet --variant=minbase --include="$PACKAGES" \
        --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$folder/root.tar" http://deb.debian.org/debian
}

configure() {
    echo gateway >"$root/etc/hostname"
    echo '127.0.0.1 localhost gateway' >"$root/etc/hosts"
    printf '/dev/vda / ext4 defaults 0 1\n' >"$root/etc/fstab"
    printf '[Match]\nType=ether\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/80-dhcp.network"
    ssh-keygen -q -t ed25519 -N '' -f "$folder/key" </dev/null
    install -D -m 600 "$folder/key.pub" "$root/root/.ssh/authorized_keys"
    chroot "$root" systemctl enable systemd-networkd ssh 2>/dev/null
    chroot "$root" passwd -q -d root
}

# Step 1 of docs/operating.md, "On a cluster of yours".
programs() {
    say "installing Armadillo there"
    mkdir -p "$root/src"
    git ls-files -z | tar --null -T - -cf - | tar -C "$root/src" -xf -
    for file in /etc/resolv.conf /etc/pip.conf "${PIP_CERT:-/nowhere}"; do
        [ ! -f "$file" ] || install -D -m 644 "$file" "$root$file"
    done
    trap 'umount -l "$root/dev" "$root/proc" 2>/dev/null || true' EXIT
    trap 'exit 130' INT TERM
    mount --bind /dev "$root/dev" && mount -t proc proc "$root/proc"
    status=0
    chroot "$root" sh -c 'python3 -m venv /opt/armadillo && /opt/armadillo/bin/pip install -q /src' || status=$?
    umount "$root/dev" "$root/proc"
    trap - EXIT INT TERM
    [ "$status" -eq 0 ] || fail "pip failed"
    chroot "$root" sh -c 'ln -s /opt/armadillo/bin/cloudcore /opt/armadillo/bin/edgecore \
        /opt/armadillo/bin/armadillo-mapper /usr/local/bin/'
    echo nameserver 10.0.2.3 >"$root/etc/resolv.conf"
}

image() {
    stamp=$(git ls-files -z deploy/hosttest.sh pyproject.toml setup.py "*.pyx" | xargs -0 cat | sha256sum)
    [ "$(cat "$folder/stamp" 2>/dev/null)" != "$stamp" ] || return 0
    mkdir -p "$folder"
    umount -l "$root/dev" "$root/proc" 2>/dev/null || true  # of a run that was killed
    rm -rf --one-file-system "$root" "$folder/disk.img" "$folder/key" "$folder/key.pub"
    [ -f "$folder/root.tar" ] || debian
    mkdir -p "$root" && tar -C "$root" -xf "$folder/root.tar"
    configure
    programs
    cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
    cp "$root"/boot/initrd.img-* "$folder/initrd"
    truncate -s 6G "$folder/disk.img" && mke2fs -q -t ext4 -d "$root" "$folder/disk.img"
    rm -rf --one-file-system "$root"
    printf '%s\n' "$stamp" >"$folder/stamp"
}

[ "$(id -u)" -eq 0 ] || fail "only root can make the image"
packages
image
HOSTTEST=$folder exec python -m pytest -m hosts tests/hosts "$@"
