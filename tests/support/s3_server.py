"""A real S3 server (moto) in a process of its own, on a free port, that ends with the process that started it."""

from __future__ import annotations

import subprocess
import sys

import boto3
from botocore.config import Config

from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.tables import create_tables
from tests.support.child_server import ChildServer
from tests.support.warehouse import NAMES

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


class S3Server(ChildServer):
    """Serves while the context is open; ``port`` and ``endpoint`` say where."""

    def __init__(self) -> None:
        # Each request would be a line.
        super().__init__(
            [sys.executable, "-c", _SERVE], "the S3 server (is moto[server] installed?)", subprocess.DEVNULL
        )

    @property
    def endpoint(self) -> str:
        """What Paimon's option ``s3.endpoint`` is set to."""
        return self.url

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
