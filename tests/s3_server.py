"""A real S3 server (moto) in a process of its own, on a free port, that ends with the process that started it."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

import boto3
from botocore.config import Config

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.tables import create_tables
from tests.warehouse import NAMES

_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""
ACCESS_KEY, SECRET_KEY, REGION = "sluice-test", "sluice-test-secret", "us-east-1"


def catalog_options(endpoint: str) -> dict[str, str]:
    """Return Paimon's options for the store at ``endpoint``."""
    return {
        "s3.endpoint": endpoint,
        "s3.access-key": ACCESS_KEY,
        "s3.secret-key": SECRET_KEY,
        "s3.region": REGION,
        "s3.path-style-access": "true",
    }


def make_s3_warehouse(endpoint: str, bucket: str) -> CatalogConfig:
    """Create the four tables in ``bucket``, through the store at ``endpoint``."""
    config = CatalogConfig({"warehouse": f"s3://{bucket}/warehouse", **catalog_options(endpoint)}, "db")
    create_tables(open_catalog(config), config, NAMES)
    return config


class S3Server:
    """Serves while the context is open; ``port`` and ``endpoint`` say where."""

    def __enter__(self) -> S3Server:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the S3 server did not start: is moto[server] installed?"
        self.port = int(line)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def client(self) -> object:
        """Return a boto3 client, for what a test does behind the program's back."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}),
        )

    def make_bucket(self, name: str) -> str:
        """Create a bucket and return its name."""
        self.client().create_bucket(Bucket=name)  # type: ignore[attr-defined]
        return name
