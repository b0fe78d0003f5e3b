"""A real RFC 3161 time stamp authority (`openssl ts` behind a local HTTP server): a credential outlives its certificate."""

from __future__ import annotations

import dataclasses
import datetime as dt
import http.server
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from renderfarm import keys
from renderfarm.credential import Claim, Issuer, read
from renderfarm.errors import CredentialFailed
from renderfarm.keys import certificates
from renderfarm.pictures import encode
from tests.waiting import wait_until

PEM = serialization.Encoding.PEM
CONFIGURATION = """
[tsa]
default_tsa = here
[here]
serial = serial
signer_cert = tsa.pem
certs = root.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the time stamp authority is openssl's")


@dataclass(frozen=True)
class Authority:
    url: str
    root_pem: bytes


def certificate(common_name: str, key: rsa.RSAPrivateKey, issuer: str, issuer_key: rsa.RSAPrivateKey, root: bool) -> x509.Certificate:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"), x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = dt.datetime.now(dt.UTC)
    public, above = key.public_key(), issuer_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=10))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(root, 1 if root else None), critical=True)
        .add_extension(x509.KeyUsage(not root, False, False, False, False, root, root, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above), critical=False)
    )
    if not root:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    folder = tmp_path_factory.mktemp("tsa")
    root_key, key = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
    root = certificate("root", root_key, "root", root_key, root=True)
    (folder / "root.pem").write_bytes(root.public_bytes(PEM))
    (folder / "tsa.pem").write_bytes(certificate("tsa", key, "root", root_key, root=False).public_bytes(PEM))
    (folder / "tsa.key").write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(CONFIGURATION)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            (folder / "query").write_bytes(query)
            command = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query"]
            reply = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Authority(f"http://127.0.0.1:{server.server_port}/", root.public_bytes(PEM))
        server.shutdown()
        thread.join()


def picture() -> bytes:
    return encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), "image/png")


CLAIM = Claim("ab" * 16, 1, "cd" * 32, "ef" * 32, "ACME", "model", "1", 1_790_000_000_000_000)


def test_a_time_stamped_credential_outlives_its_certificate(authority: Authority, tmp_path: Path) -> None:
    begun = time.time()
    chain = certificates.development_chain(leaf_life=dt.timedelta(seconds=6))
    key_set = dataclasses.replace(
        keys.init(tmp_path / "set"),
        certificate_chain_pem=chain.chain_pem,
        certificate_key_pem=chain.key_pem,
        time_stamp_url=authority.url,
    )
    data = Issuer(key_set).issue(picture(), "image/png", CLAIM)
    plain = Issuer(dataclasses.replace(key_set, time_stamp_url=None)).issue(picture(), "image/png", CLAIM)
    both = chain.anchor_pem + authority.root_pem
    assert read(data, "image/png", both).state == "trusted"
    wait_until(begun + 7)  # the C2PA library reads its own clock
    assert read(data, "image/png", both).state == "trusted"
    assert read(plain, "image/png", both).state == "expired"
    untrusted_stamp = read(data, "image/png", chain.anchor_pem)
    assert untrusted_stamp.state == "expired" and "no trusted time stamp" in untrusted_stamp.reason


def test_an_authority_that_is_away_is_a_failed_credential(tmp_path: Path) -> None:
    key_set = dataclasses.replace(keys.init(tmp_path / "set"), time_stamp_url="http://127.0.0.1:9/")
    with pytest.raises(CredentialFailed, match="no credential for image"):
        Issuer(key_set).issue(picture(), "image/png", CLAIM)
