"""Servers for the tests of sharing, on loopback and free ports: one that speaks S3, and an SSH server."""

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import cached_property
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on: all are held before one is let go, so no two are the same."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


class Server:
    """A process in a folder of its own, with its output in ``log``."""

    def __init__(self, home: Path):
        self.home = home
        self.process = None

    def launch(self, *command: str) -> None:
        with (self.home / "log").open("ab") as log:
            # A group of its own, so that nothing that it starts outlives it.
            self.process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log, start_new_session=True)

    def wait_until(self, ready, seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not ready():
            running = self.process.poll() is None
            assert running and time.monotonic() < end, (self.home / "log").read_text()[-4000:]
            time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut would: no goodbye."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class S3(Server):
    """SeaweedFS, all of it in one process; user ``team``, password ``right``."""

    def __init__(self, home: Path):
        super().__init__(home)
        self.ports = free_ports(8)
        self.endpoint = f"http://127.0.0.1:{self.ports[0]}"
        (home / "data").mkdir()
        team = {"credentials": [{"accessKey": "team", "secretKey": "right"}], "name": "team", "actions": ["Admin"]}
        (home / "s3.json").write_text(json.dumps({"identities": [team]}))

    def start(self) -> None:
        names = ("s3", "s3.{}.grpc", "master", "master.{}.grpc", "volume", "volume.{}.grpc", "filer", "filer.{}.grpc")
        flags = []
        for name, port in zip(names, self.ports, strict=True):
            flags.append(f"-{name.format('port')}={port}" if "{}" in name else f"-{name}.port={port}")
        self.launch(
            *(WEED, "-logtostderr", "server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
            *flags,
            *("-s3.config=s3.json", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
            # Every bucket takes a few volumes; small ones, as a full disk would be refused.
            *("-volume.max=100", "-master.volumeSizeLimitMB=64", "-volume.minFreeSpace=100MB"),
            "-master.telemetry=false",
        )
        self.wait_until(self.writable)

    @cached_property
    def client(self):
        import botocore.session
        from botocore.config import Config

        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="team",
            aws_secret_access_key="right",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20),
        )

    def writable(self) -> bool:
        """S3 answers before the volumes behind it do; what counts is that an object can be put."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if "ready" not in self.buckets():
                self.bucket("ready")
            self.client.put_object(Bucket="ready", Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError):
            return False
        return True

    def buckets(self) -> list[str]:
        return [bucket["Name"] for bucket in self.client.list_buckets()["Buckets"]]

    def bucket(self, name: str) -> str:
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}/study"

    def keys(self, bucket: str) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {found["Key"] for page in pages for found in page.get("Contents", [])}


class SSH(Server):
    """OpenSSH's server, run by whoever runs the test, with keys of its own: ``home/key`` opens it."""

    def __init__(self, home: Path):
        super().__init__(home)
        (self.port,) = free_ports(1)
        self.user = getpass.getuser()
        self.key = home / "key"
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True)
        shutil.copy(home / "key.pub", home / "authorized_keys")
        (home / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\n"
            f"AuthorizedKeysFile {home}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nSubsystem sftp internal-sftp\n"
        )

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # root's sshd wants it; a package makes it at boot only
        self.launch(SSHD, "-D", "-e", "-f", str(self.home / "config"))
        self.wait_until(self.answers)

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def folder(self, name: str) -> str:
        return f"ssh://127.0.0.1:{self.port}{self.home / name}"
