"""S3 servers on loopback for the chaos runs: Ceph's RADOS gateway (a real one), or moto over HTTP.

Each is a context manager that sets what clients read from the environment, and makes the bucket. Ceph comes as Debian packages:

    apt-get install -y --no-install-recommends ceph-mon ceph-osd ceph-mgr radosgw ceph-common uuid-runtime
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BUCKET = "chaos"
ACCESS_KEY, SECRET_KEY = "AKIAIOSFODNN7EXAMPLE", "chaos-secret-on-loopback"
START_S = 120
PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool", "ceph")


class NoServer(RuntimeError):
    """The server cannot be had here: the message says why."""


@contextlib.contextmanager
def s3(kind: str, folder: Path) -> Iterator[str]:
    """`ceph`, `moto` or `unfenced` for the time of the block; the URI under which outputs may lie. Raises: NoServer."""
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(_ceph(folder) if kind == "ceph" else _moto())
        endpoint = stack.enter_context(_unfenced(endpoint)) if kind == "unfenced" else endpoint
        os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        os.environ |= {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        _make_bucket()
        yield f"s3://{BUCKET}"


@contextlib.contextmanager
def s3_or_folder(kind: str, folder: Path) -> Iterator[str]:
    """`folder`, or a server as `s3` starts it. Raises: NoServer."""
    if kind == "folder":
        yield str(folder)
        return
    with s3(kind, folder) as uri:
        yield uri


def _make_bucket() -> None:
    import boto3

    deadline = time.monotonic() + START_S
    while True:
        try:
            boto3.client("s3").create_bucket(Bucket=BUCKET)
            return
        except Exception as error:  # whatever it is while the server starts; the deadline ends it
            if time.monotonic() > deadline:
                raise NoServer(f"no bucket within {START_S} s: {error}") from error
            time.sleep(1)


@contextlib.contextmanager
def _unfenced(upstream: str) -> Iterator[str]:
    """A server in front of another that lets every writer of a new object win, as rclone and s3rver do: it drops If-None-Match."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            passed = {name: value for name, value in self.headers.items() if name.lower() not in ("if-none-match", "host", "connection")}
            there = http.client.HTTPConnection(upstream.removeprefix("http://"), timeout=60)
            there.request(self.command, self.path, body or None, {**passed, "Host": self.headers.get("Host", "")})
            answer = there.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            there.close()

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def _moto() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


CEPH_CONF = """\
[global]
fsid={fsid}
mon_initial_members=a
mon_host=[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public_addr=127.0.0.1
auth_cluster_required=cephx
auth_service_required=cephx
auth_client_required=cephx
osd_pool_default_size=1
osd_pool_default_min_size=1
osd_pool_default_pg_num=4
osd_pool_default_pg_autoscale_mode=off
mon_allow_pool_size_one=true
osd_crush_chooseleaf_type=0
mon_max_pg_per_osd=1000
keyring={home}/keyring
run_dir={home}/run
admin_socket={home}/run/$name.asok
log_file={home}/log/$name.log
pid_file={home}/run/$name.pid
ms_bind_ipv6=false
[mon]
mon_data={home}/mon
mon_data_avail_crit=1
[osd]
osd_data={home}/osd
osd_objectstore=bluestore
bluestore_block_size=4294967296
bluestore_fsck_quick_fix_on_mount=false
osd_memory_target=1073741824
osd_memory_base=268435456
bluestore_cache_autotune=false
bluestore_cache_size=67108864
[client]
log_file={home}/log/rgw.log
admin_socket={home}/run/rgw.$pid.asok
pid_file=
rgw_frontends=beast endpoint=127.0.0.1:{port}
rgw_thread_pool_size=32
rgw_enable_usage_log=false
rgw_log_nonexistent_bucket=false
"""
"""One monitor, one OSD on a file, one gateway. cephx stays on: with `auth none` the gateway of 16.2 hung."""


@contextlib.contextmanager
def _ceph(folder: Path) -> Iterator[str]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or os.geteuid():
        raise NoServer(f"Ceph needs root and {', '.join(missing)}" if missing else "Ceph needs root")
    home = folder / "ceph"
    for name in ("mon", "osd", "run", "log"):
        (home / name).mkdir(parents=True)
    port, fsid = free_port(), str(uuid.uuid4())
    conf = home / "ceph.conf"
    v2, v1 = free_port(), free_port()
    conf.write_text(CEPH_CONF.format(fsid=fsid, home=home, port=port, v1=v1, v2=v2))
    gateway: subprocess.Popen[bytes] | None = None
    try:
        _make_cluster(home, conf, fsid, f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]")
        with open(home / "log" / "rgw.out", "wb") as out:
            gateway = subprocess.Popen(["radosgw", "-c", conf, "-n", "client.admin", "-f"], stdout=out, stderr=out, start_new_session=True)
        user = ["user", "create", "--uid", "chaos", "--display-name", "chaos", "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        _run("radosgw-admin", "-c", conf, "-n", "client.admin", *user)
        yield f"http://127.0.0.1:{port}"
    finally:
        if gateway is not None:
            gateway.kill()
            gateway.wait()
        for name in ("osd.0", "mon.a"):
            _end(home / "run" / f"{name}.pid")


def _make_cluster(home: Path, conf: Path, fsid: str, monitor: str) -> None:
    keyring, monmap = home / "keyring", home / "monmap"
    everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
    _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, monmap)
    _run("ceph-authtool", "-C", keyring, "-g", "-n", "mon.", "--cap", "mon", "allow *")
    _run("ceph-authtool", keyring, "-g", "-n", "client.admin", *everything)
    _run("ceph-authtool", keyring, "-g", "-n", "osd.0", *everything)
    _run("ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
    _run("ceph-mon", "-c", conf, "-i", "a")
    osd = str(uuid.uuid4())
    _run("ceph", "-c", conf, "osd", "new", osd)
    _run("ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
    _run("ceph-osd", "-c", conf, "-i", "0")
    _run("ceph", "-c", conf, "osd", "crush", "add", "osd.0", "1", "root=default", "host=h")


def _run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_S)
    if done.returncode:
        raise NoServer(f"{command[0]} failed: {done.stderr.strip()[-300:]}")


def _end(pid_file: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
