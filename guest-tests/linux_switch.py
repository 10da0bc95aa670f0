#!/usr/bin/env python3
"""Boots the distribution's stock Linux in two machines on one switch, which ping each other and send a file: linux_switch.py VIV.
Prints TAP; skipped when `tools/fetch-guests linux-net` has not been run. On virtual time, which goes as the host's while both wait."""
import os
import sys
import tempfile

from linux_guest import LinuxGuest, Report, fetched

viv = os.path.abspath(sys.argv[1])
guest = fetched("linux-net", "virtio_net")
report = Report()
with tempfile.TemporaryDirectory() as runtime:
    os.environ["XDG_RUNTIME_DIR"] = runtime
    machines = [LinuxGuest(viv, guest, ["--engine", "soft", "--clock", "virtual", "--net", f"switch:lab,delay=1ms,model={model},mac=52:54:00:00:00:0{index}"],
                           report, append="quiet net.ifnames=0", memory="160M") for index, model in ((1, "e1000"), (2, "virtio"))]
    first, second = machines
    for index, machine in enumerate(machines, 1):
        machine.wait_for_shell()
        machine.ask(f"machine {index} has an address", f"ip link set eth0 up; ip addr add 10.1.1.{index}/24 dev eth0; echo $?", "0")
    first.ask("three pings are answered", "ping -i 0.2 -c 3 10.1.1.2 | grep -c '64 bytes from 10.1.1.2'", "3")
    receive = "nc -l -p 7 | md5sum"
    second.send(receive)
    first.ask("a file is made", "ping -c 1 10.1.1.2 > /dev/null; dd if=/dev/urandom of=/tmp/a bs=1k count=256 2> /dev/null; echo $?", "0")
    wanted = (first.answer("md5sum < /tmp/a") or [""])[0]
    first.ask("it is sent", "nc 10.1.1.2 7 < /tmp/a; echo $?", "0")
    got = second.rest_of_answer(receive)
    report(wanted and got and wanted in got, "it arrives whole", (wanted, got))
    for machine in machines:
        machine.send("poweroff -f")
    outcomes = [machine.finish() for machine in machines]
    report(all(outcome.get("outcome") == "powered-off" for outcome in outcomes), "both power off", outcomes)
    left = [name for _, _, names in os.walk(runtime) for name in names]
    report(not left, "no socket is left", left)
report.end()
