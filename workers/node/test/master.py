#!/usr/bin/env python3
"""The master's side of one worker, for the tests: spawns a command with the contract's descriptors
and environment, listens where the app asks, hands over connections, obeys one JSON command a line.
Every message of the worker and every event goes to stdout as one JSON line.

usage: master.py COMMAND [ARGUMENT ...]

commands  {"do":"send","message":{...}}    one message to the worker
          {"do":"page"}                    answers {"event":"page","values":[16 numbers] or null}
          {"do":"hold"} {"do":"release"}   keep what is accepted, hand over what was kept
          {"do":"close"}                   close the control channel, as a dying master does
          {"do":"signal","number":15}      to the spawned process
          {"do":"stop"}                    kill the process group and end
"""
import array, fcntl, json, os, selectors, signal, socket, struct, subprocess, sys

CONTROL, TOKEN, LOAD = 100, 101, 102
selector = selectors.DefaultSelector()


def emit(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def memory_page():
    fd = os.memfd_create("tenfold-load", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4096)
    return fd


class Worker:
    def __init__(self, command):
        self.sequence, self.rest, self.listeners, self.pending = 0, b"", {}, {}
        self.holding, self.held = False, []
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        token, self.token = os.pipe()
        self.page = memory_page()
        # The claim must never block: whoever finds the pipe empty goes on as plain Node.
        fcntl.fcntl(token, fcntl.F_SETFL, fcntl.fcntl(token, fcntl.F_GETFL) | os.O_NONBLOCK)
        os.write(self.token, b"1")
        sources = {CONTROL: theirs.fileno(), TOKEN: token, LOAD: self.page}
        env = dict(os.environ, TENFOLD_CONTROL_FD=str(CONTROL), TENFOLD_TOKEN_FD=str(TOKEN),
                   TENFOLD_LOAD_FD=str(LOAD), TENFOLD_MASTER=str(os.getpid()),
                   TENFOLD_PROTOCOL="1", TENFOLD_SLOT="0", TENFOLD_WORKERS="1", TENFOLD_WORKER="7",
                   TENFOLD_INSTANCE="0" * 32, NODE_APP_INSTANCE="0")
        for target, source in sources.items():
            os.dup2(source, target, inheritable=True)
        self.process = subprocess.Popen(command, env=env, pass_fds=list(sources), stdout=sys.stderr,
                                        stdin=subprocess.DEVNULL, start_new_session=True)
        for target in sources:
            os.close(target)
        theirs.close()
        os.close(token)
        self.channel.setblocking(False)
        selector.register(self.channel, selectors.EVENT_READ, self.readable)
        self.watch(self.process.pid, self.ended)

    def watch(self, pid, then):
        pidfd = os.pidfd_open(pid)

        def gone():
            selector.unregister(pidfd)
            os.close(pidfd)
            then()
        selector.register(pidfd, selectors.EVENT_READ, gone)

    def ended(self):
        emit("exit", code=self.process.wait())
        sys.exit(0)

    def attached_ended(self):
        """A watcher restarts the app in a living worker: the next process may claim the channel."""
        for listener in self.listeners.values():
            selector.unregister(listener)
            listener.close()
        self.listeners = {}
        try:
            os.write(self.token, b"1")
            emit("detached")
        except BrokenPipeError:
            pass  # nobody is left to read it

    def send(self, message, fd=None):
        data = json.dumps(message).encode() + b"\n"
        if fd is None:
            self.channel.setblocking(True)
            self.channel.sendall(data)
            self.channel.setblocking(False)
        else:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
            self.channel.sendmsg([data], [rights])

    def answer(self, message, fd=None, kind="net.Native", **fields):
        reply = {"cmd": "NODE_CLUSTER", "ack": message["seq"], "errno": None,
                 "data": message.get("data"), **fields}
        self.send({"cmd": "NODE_HANDLE", "type": kind, "msg": reply} if fd else reply, fd)

    def readable(self):
        try:
            data = self.channel.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            selector.unregister(self.channel)
            return emit("eof")
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.receive(json.loads(line))

    def receive(self, message):
        emit("message", message=message)
        if not isinstance(message, dict):
            return
        act = message.get("act")
        if act == "attach" and message["pid"] != self.process.pid:
            self.watch(message["pid"], self.attached_ended)
        elif act == "queryServer":
            self.query(message)
        elif act == "exitedAfterDisconnect":
            self.answer(message)
        elif act == "close" and message["key"] in self.listeners:
            listener = self.listeners.pop(message["key"])
            selector.unregister(listener)
            listener.close()
        elif "accepted" in message:
            client = self.pending.pop(message["ack"])
            client.close()

    def query(self, message):
        key = "{address}:{port}:{addressType}:{index}".format(**message)
        try:
            listener = bind(message)
        except OSError as error:
            return self.answer(message, key=key, errno=-error.errno)
        if listener.type == socket.SOCK_DGRAM:
            self.answer(message, fd=listener.fileno(), kind="dgram.Native", key=key)
            return listener.close()
        listener.setblocking(False)
        self.listeners[key] = listener
        selector.register(listener, selectors.EVENT_READ, lambda: self.accept(key))
        name = listener.getsockname()
        if listener.family == socket.AF_UNIX:
            return self.answer(message, key=key)
        family = "IPv6" if listener.family == socket.AF_INET6 else "IPv4"
        sockname = {"address": name[0], "family": family, "port": name[1]}
        self.answer(message, key=key, sockname=sockname)

    def accept(self, key):
        client, _ = self.listeners[key].accept()
        # accept(2) does not inherit it, and libuv trusts whoever hands a socket over.
        client.setblocking(False)
        if self.holding:
            self.held.append((key, client))
            emit("held")
        else:
            self.hand_over(key, client)

    def hand_over(self, key, client):
        self.sequence += 1
        self.pending[self.sequence] = client
        newconn = {"cmd": "NODE_CLUSTER", "act": "newconn", "key": key, "seq": self.sequence}
        if os.environ.get("PRIVATE"):
            newconn["private"] = True
        self.send({"cmd": "NODE_HANDLE", "type": "net.Native", "msg": newconn}, client.fileno())

    def command(self, order):
        match order["do"]:
            case "send":
                self.send(order["message"])
            case "page":
                values = struct.unpack("=16d", os.pread(self.page, 128, 0))
                emit("page", values=values if values[0] == values[15] else None)
            case "hold":
                self.holding = True
            case "release":
                for key, client in self.held:
                    self.hand_over(key, client)
                self.holding, self.held = False, []
            case "close":
                selector.unregister(self.channel)
                self.channel.close()
            case "signal":
                self.process.send_signal(order["number"])
            case "stop":
                os.killpg(self.process.pid, signal.SIGKILL)


def bind(message):
    if message["port"] < 0:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(message["address"])
    else:
        udp = str(message["addressType"]).startswith("udp")
        v6 = ":" in (message["address"] or "")
        family = socket.AF_INET6 if v6 else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0 if udp else 1)
        listener.bind((message["address"] or ("::1" if v6 else "127.0.0.1"), message["port"]))
    if listener.type == socket.SOCK_STREAM:
        listener.listen(512)
    return listener


def main():
    worker = Worker(sys.argv[1:])
    orders = b""

    def order():
        nonlocal orders
        data = os.read(0, 65536)
        if not data:
            worker.command({"do": "stop"})
            return selector.unregister(0)
        *lines, orders = (orders + data).split(b"\n")
        for line in lines:
            worker.command(json.loads(line))
    selector.register(0, selectors.EVENT_READ, order)
    while True:
        for key, _ in selector.select():
            key.data()


main()
