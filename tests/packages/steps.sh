#!/bin/sh
# The steps of run.sh inside a root. Each ends with an error at the first thing that is not as it must be.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
config=/etc/camfire/camfire.toml

expect() { # what, expected, actual
    if [ "$2" != "$3" ]; then
        printf '%s\n  expected: %s\n  is:       %s\n' "$1" "$2" "$3" >&2
        exit 1
    fi
}

# Waits for a command to succeed.
wait_for() { # what, command...
    what=$1
    shift
    end=$(($(date +%s) + 120))
    until "$@" > /dev/null 2>&1; do
        if [ "$(date +%s)" -gt $end ]; then
            echo "waited 120 s for $what" >&2
            cat /tmp/camfire.log >&2 || true
            exit 1
        fi
        sleep 0.2
    done
}

mode() {
    stat -c '%U:%G %a' "$1"
}

# The daemon with what the unit sets.
start_daemon() {
    setpriv --reuid camfire --regid camfire --init-groups env STATE_DIRECTORY=/var/lib/camfire \
        GST_REGISTRY=/var/cache/camfire/gstreamer-registry.bin camfire run 2> /tmp/camfire.log &
    daemon=$!
    wait_for "camfire to run" grep -q "camfire is running" /tmp/camfire.log
}

stop_daemon() {
    kill -TERM $daemon
    wait $daemon
}

install() {
    apt-get update -qq
    cd /srv
    # shellcheck disable=SC2086,SC2068 # options
    apt install -y $@ ./camfire_*.deb > /tmp/apt.log 2>&1 || { tail -n 40 /tmp/apt.log >&2; exit 1; }
}

installed() {
    expect "state" "ii" "$(dpkg-query -W -f='${db:Status-Abbrev}' camfire | tr -d ' ')"
    expect "conffile" " $config" "$(dpkg-query -W -f='${Conffiles}' camfire | sed -n 's/ [0-9a-f]*$//p')"
    expect "$config" "root:camfire 640" "$(mode $config)"
    expect "conf.d" "root:camfire 750" "$(mode /etc/camfire/conf.d)"
    expect "state directory" "camfire:camfire 700" "$(mode /var/lib/camfire)"
    expect "cache directory" "camfire:camfire 700" "$(mode /var/cache/camfire)"
    expect "groups" "camfire render video" "$(id -nG camfire | tr ' ' '\n' | sort | tr '\n' ' ' | sed 's/ $//')"
    expect "enabled" /lib/systemd/system/camfire.service \
        "$(readlink /etc/systemd/system/multi-user.target.wants/camfire.service | sed 's#^/usr##')"
    for page in camfire camfire-run camfire-check camfire-doctor camfire-analyze camfire-watch; do
        zcat /usr/share/man/man1/$page.1.gz | grep -q '^\.TH' || { echo "no man page $page" >&2; exit 1; }
    done
    zcat /usr/share/man/man5/camfire.toml.5.gz | grep -q '^\.TH'
    grep -q "complete.*camfire" /usr/share/bash-completion/completions/camfire
    test -s /usr/share/zsh/vendor-completions/_camfire
    test -s /usr/share/fish/vendor_completions.d/camfire.fish
    zcat /usr/share/doc/camfire/third-party-licences.gz | grep -q '^rumqttc '
    for path in README.md copyright docs/service.md config/camfire.toml pipelines/rtsp-h264-software.toml \
        examples/passwords.conf examples/jetson.conf; do
        test -s /usr/share/doc/camfire/$path || { echo "no $path" >&2; exit 1; }
    done
    expect "check" "ok: $config; 0 cameras" "$(camfire check | grep -v '^warning: No camera is configured')"
    # Everything that is needed is there, whichever broker is not.
    camfire doctor > /tmp/doctor || true
    expect "doctor" "" "$(grep '^NO ' /tmp/doctor | grep -v broker || true)"
}

# The service as it is after the installation. It says what to do next, and nothing else is wrong.
idle() {
    mosquitto -d
    start_daemon
    wait_for "the note" grep -q "No camera is configured" /tmp/camfire.log
    stop_daemon
    expect "warnings" "" "$(grep -E 'WARN|ERROR' /tmp/camfire.log | grep -v 'No camera is configured' || true)"
}

# Five lines of configuration to the first event.
first_event() {
    mosquitto -d
    cat > $config << END
[mqtt]
host = "127.0.0.1"

[cameras.yard]
source = "file:///srv/demo.mp4"
END
    expect "check" "ok: $config; 1 cameras" "$(camfire check)"
    timeout 120 camfire watch --count 1 > /tmp/event &
    watch=$!
    start_daemon
    wait $watch
    cat /tmp/event
    expect "event" 1 "$(grep -c ' yard  .* detected$' /tmp/event)"
    stop_daemon
    test -s /var/lib/camfire/outbox.db
}

# The same results on every architecture.
analysis() {
    {
        camfire classify --json --top 5 /srv/chelsea.png
        camfire analyze --json --detections /srv/crossing.mp4
    } > /srv/results
    expect "class" 1 "$(head -n 1 /srv/results | grep -c cat)"
    test "$(grep -c '/events"' /srv/results)" -gt 0
    camfire analyze --annotate /srv/annotated.mp4 /srv/crossing.mp4 > /dev/null
    test -s /srv/annotated.mp4
}

# Keeps configuration and history, and asks nothing.
upgrade() {
    cp $config /srv/edited.toml
    outbox=$(sha256sum < /var/lib/camfire/outbox.db)
    apt install -y /srv/upgrade.deb > /tmp/apt.log 2>&1 || { tail -n 40 /tmp/apt.log >&2; exit 1; }
    expect "version" 99.0-1 "$(dpkg-query -W -f='${Version}' camfire)"
    cmp /srv/edited.toml $config
    expect "$config" "root:camfire 640" "$(mode $config)"
    expect "outbox" "$outbox" "$(sha256sum < /var/lib/camfire/outbox.db)"
}

# Keeps configuration and history.
remove() {
    apt remove -y camfire > /tmp/apt.log 2>&1
    test ! -e /usr/bin/camfire
    cmp /srv/edited.toml $config
    test -s /var/lib/camfire/outbox.db
    id camfire > /dev/null
}

# Takes everything.
purge() {
    apt purge -y camfire > /tmp/apt.log 2>&1
    for path in /etc/camfire /var/lib/camfire /var/cache/camfire /usr/share/doc/camfire \
        /etc/systemd/system/multi-user.target.wants/camfire.service; do
        { [ ! -e $path ] && [ ! -L $path ]; } || { echo "purge leaves $path" >&2; exit 1; }
    done
    ! getent passwd camfire
    ! getent group camfire
    expect "state" "" "$(dpkg-query -W -f='${db:Status-Abbrev}' camfire 2> /dev/null || true)"
}

"$@"
