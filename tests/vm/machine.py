"""The virtual machine: starts it, runs commands in it through QEMU's guest agent, and cuts its power."""

import base64
import json
import socket
import subprocess
import time

import emulator

MEMORY = "2G"
# QEMU's user network shows the host under this address.
HOST_ADDRESS = "10.0.2.2"
KERNEL_ARGUMENTS = "root=/dev/vda rw console=ttyS0 audit=1 systemd.show_status=no quiet mitigations=off"
# The pause between two looks at something that is waited for.
PAUSE_S = 0.3
# How long the guest agent may take for the answer that shows that it runs.
AGENT_ANSWER_S = 3


class Failure(Exception):
    """A check that was not met, or not in time."""


class Clock:
    """The time by which the current step must be done."""

    def __init__(self):
        self.end = float("inf")

    def remaining_s(self):
        return self.end - time.monotonic()

    def wait(self, what, condition):
        """Waits until `condition` returns something true, and returns it."""
        while True:
            result = condition()
            if result:
                return result
            if self.remaining_s() <= 0:
                raise Failure(f"timed out while waiting for {what}")
            time.sleep(PAUSE_S)


class Result:
    """What a command in the machine returned."""

    def __init__(self, status):
        self.code = status.get("exitcode", -status.get("signal", 0))
        self.out = base64.b64decode(status.get("out-data", "")).decode(errors="replace")
        self.err = base64.b64decode(status.get("err-data", "")).decode(errors="replace")


class Machine:
    """One virtual machine with its disk. The disk outlives `cut_power`."""

    def __init__(self, qemu, image, folder, payload, ports, accelerator, cores):
        """`payload` is a disk image that the machine sees as /dev/vdb. `ports` forwards ports of this host, by
        number, to ports of the machine."""
        self.clock, self.process, self.connection = Clock(), None, None
        self.folder, self.socket_path = folder, folder / "agent.socket"
        self.qemu, self.accelerator, self.cores = qemu, accelerator, cores
        self.disk = folder / "disk.img"
        image.copy_disk(self.disk)
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in ports.items())
        self.arguments = [
            *qemu.arguments, "-nodefaults", "-display", "none", "-m", MEMORY, "-smp", str(cores),
            *(["-accel", "kvm", "-cpu", "host"] if accelerator == "kvm" else ["-accel", "tcg,thread=multi", "-cpu", "max"]),
            "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", KERNEL_ARGUMENTS,
            "-drive", f"file={self.disk},format=raw,if=virtio",
            "-drive", f"file={payload},format=raw,if=virtio,readonly=on",
            "-netdev", f"user,id=net{forwards}", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-chardev", f"socket,path={self.socket_path},server=on,wait=off,id=agent", "-device", "virtio-serial",
            "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
            "-chardev", f"file,path={folder / 'console.log'},append=on,id=console", "-serial", "chardev:console",
            "-object", "rng-random,filename=/dev/urandom,id=random", "-device", "virtio-rng-pci,rng=random",
        ]

    def start(self):
        """Switches the machine on and waits until it has booted."""
        with open(self.folder / "qemu.log", "ab") as log:
            self.process = subprocess.Popen(
                [self.qemu.program, *self.arguments], env=self.qemu.environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)
        self.wait_booted()

    def wait_booted(self):
        """Waits until the agent answers and every unit of the boot has been started. A failed one is an error."""
        self.connect()
        state = self.clock.wait("the end of the boot", self.boot_state)
        if state != "running":
            failed = self.run("systemctl --failed --no-legend").out
            raise Failure(f"the machine is {state} after the boot: {failed}")

    def boot_state(self):
        state = self.run("systemctl is-system-running").out.strip()
        return state if state in ("running", "degraded", "maintenance") else None

    def cut_power(self):
        """Ends the machine at once. What its kernel has not written to the disk is lost."""
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None
        self.disconnect()

    def disconnect(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def connect(self):
        """Connects to the agent. Waits until it answers: a boot starts it late."""
        self.clock.wait("the guest agent", self.try_to_connect)

    def try_to_connect(self):
        if self.process.poll() is not None:
            raise Failure(f"QEMU exited with {self.process.returncode}; see {self.folder / 'qemu.log'}")
        self.disconnect()
        self.connection, self.received = socket.socket(socket.AF_UNIX), b""
        # The agent may have answers left for an earlier connection. They have other numbers.
        number = time.monotonic_ns() & 0xFFFFFFFF
        try:
            self.connection.connect(str(self.socket_path))
            self.send({"execute": "guest-sync", "arguments": {"id": number}})
            while self.receive(AGENT_ANSWER_S).get("return") != number:
                pass
            return True
        except OSError:
            return False

    def send(self, message):
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, seconds):
        """The agent's next answer."""
        end = time.monotonic() + seconds
        while b"\n" not in self.received:
            self.connection.settimeout(max(0.01, min(end - time.monotonic(), 600)))
            data = self.connection.recv(65536)
            if not data:
                raise Failure("QEMU closed the connection to the guest agent")
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        return json.loads(line)

    def ask(self, command, **arguments):
        self.send({"execute": command, "arguments": arguments})
        try:
            answer = self.receive(self.clock.remaining_s())
        except TimeoutError:
            raise Failure(f"the guest agent did not answer {command} in time") from None
        if "error" in answer:
            raise Failure(f"{command}: {answer['error'].get('desc')}")
        return answer["return"]

    def run(self, script, text=""):
        """Runs a shell script in the machine, as root, with `text` as its input."""
        pid = self.ask(
            "guest-exec", path="/bin/bash", arg=["-c", script], env=["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=cat"],
            **{"input-data": base64.b64encode(text.encode()).decode(), "capture-output": True})["pid"]
        what = script if len(script) < 80 else script[:77] + "..."

        def end():
            status = self.ask("guest-exec-status", pid=pid)
            return status if status["exited"] else None

        return Result(self.clock.wait(f"the end of: {what}", end))

    def output(self, script, text=""):
        """The output of a script that must succeed."""
        result = self.run(script, text)
        if result.code != 0:
            raise Failure(f"exit status {result.code}: {script}\n{result.out}{result.err}")
        return result.out.strip()

    def write(self, path, text, mode="644"):
        """Writes a file in the machine. Its owner and mode stay if it exists."""
        self.output(f"[ -e {path} ] || install -D -m {mode} /dev/null {path}; cat > {path}", text)

    def reboot(self):
        """Reboots the machine from inside, and waits until it has booted again."""
        before = self.output("cat /proc/sys/kernel/random/boot_id")
        # The answer may come before or after the agent is stopped.
        self.send({"execute": "guest-exec", "arguments": {"path": "/bin/systemctl", "arg": ["reboot"]}})

        def has_rebooted():
            self.connect()
            try:
                return self.output("cat /proc/sys/kernel/random/boot_id") != before
            except (Failure, OSError):
                return False

        self.clock.wait("the reboot", has_rebooted)
        self.wait_booted()


def default_accelerator():
    return "kvm" if emulator.can_use_kvm() else "tcg"
