"""S3 and its kin as storage (the only owner of boto3).

Put-if-absent is `If-None-Match: *` on single PUTs (RGW knows no conditional multipart). A time-out after the write took effect looks
like a lost race, so every lost race reads back and compares. Retries have full jitter within `budget_s`; beyond it: StorageAway.
Credentials that expired are read anew before the next try: whoever rotates them writes a file or answers an endpoint.
Endpoint, region and credentials come from the environment or the AWS configuration, never from a job file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import time
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from renderfarm.errors import NotStored, StorageAway, StorageRefused
from renderfarm.storage.base import Stored, checked_key, same_bytes_or_raise

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

Reply = TypeVar("Reply")

ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
TAKEN = frozenset({"412", "PreconditionFailed"})
_RIGHTS = "check the bucket's policy, and AWS_ACCESS_KEY_ID / AWS_SECRET_ACCESS_KEY"
_REGION = "set AWS_REGION to the bucket's own, and AWS_ENDPOINT_URL for other servers"
_SPACE = "free space there or raise the quota, then run the same command again"
REFUSED = {
    "NoSuchBucket": ("the bucket does not exist", "make it, or check its name, AWS_REGION and AWS_ENDPOINT_URL"),
    "AccessDenied": ("the bucket refuses this key", _RIGHTS),
    "403": ("the bucket refuses this key", _RIGHTS),
    "InvalidAccessKeyId": ("the access key is unknown", _RIGHTS),
    "SignatureDoesNotMatch": ("the secret key is wrong", _RIGHTS),
    "AllAccessDisabled": ("the bucket is disabled", _RIGHTS),
    "AccountProblem": ("the account has a problem", "ask whoever runs the store"),
    "InvalidBucketName": ("no valid bucket name", "write s3://bucket/prefix"),
    "PermanentRedirect": ("the bucket lies in another region", _REGION),
    "AuthorizationHeaderMalformed": ("the bucket lies in another region", _REGION),
    "IllegalLocationConstraintException": ("the bucket lies in another region", _REGION),
    "NotImplemented": ("the store does not know what was asked", "use one that knows If-None-Match (docs/operator.md, Storage)"),
    "MethodNotAllowed": ("the store does not allow this", "check AWS_ENDPOINT_URL: it must be the S3 endpoint"),
    "QuotaExceeded": ("the quota is used up", _SPACE),
    "InsufficientStorage": ("the store is full", _SPACE),
    "XMinioStorageFull": ("the store is full", _SPACE),
    "KMS.DisabledException": ("the store's encryption key is disabled", "enable it"),
}
"""What a person must mend, by the server's own name for it: in our words, and the remedy."""
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
SKEWED = "RequestTimeTooSkewed"
"""Passes where a clock is being set, and is for a person to mend where nobody sets it."""
PASSING = frozenset({408, 409, 425, 429})
LASTING = frozenset({501, 505, 507, 511})
"""Answers of 5xx that no further try changes."""
CHECKSUMS = ("md5", "crc32", "sha256", "none")
"""Of what is written; buckets with a default retention want one. Content-MD5 was accepted by all of five servers tried (DESIGN)."""
BACKOFF_S, BACKOFF_S_MAX = 0.2, 10.0
BUDGET_S = 120.0


class S3Storage:
    """Objects under `s3://bucket/prefix`. Safe to share between threads; build one per process."""

    renew_after_s = 600.0
    """An object that lay there for longer was no write of ours that took effect without an answer."""

    def __init__(self, uri: str, *, budget_s: float = BUDGET_S, checksum: str = "auto") -> None:
        """`checksum`: one of CHECKSUMS, or `auto`: the first that the store takes.

        Raises: StorageRefused when the bucket does not exist or refuses us, StorageAway when it does not answer.
        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise StorageRefused("no bucket named", uri, "write s3://bucket/prefix")
        self.uri = uri.rstrip("/")
        self.bucket = bucket
        self.prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.budget_s = budget_s
        self.checksums = [*CHECKSUMS] if checksum == "auto" else [checksum]
        """Those that the store was not seen to refuse; the first is sent."""
        self.versioned = False
        """Whether the store answered a write with a version: then what is deleted is kept all the same."""
        self.client = self._connect()
        self.identity = f"{self.client.meta.endpoint_url} {self.uri} {self._key_id()}"
        """The store, the place in it and who asks."""
        self._call(lambda: self.client.list_objects_v2(Bucket=bucket, Prefix=self.prefix, MaxKeys=1))

    def _connect(self) -> Any:
        """A client with the credentials of now. Raises: StorageRefused."""
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            return boto3.session.Session().client("s3", config=config)
        except Exception as error:  # botocore has no common base for its own configuration errors
            raise StorageRefused(f"no S3 client: {error}", self.uri, "set AWS_REGION, and AWS_ENDPOINT_URL for other servers") from error

    def _key_id(self) -> str:
        credentials = self.client._request_signer._credentials
        return "" if credentials is None else str(credentials.access_key)

    def _call(self, call: Callable[[], Reply], key: str = "") -> Reply:
        """Run one request; retry what the world causes within the budget.

        Raises: NotStored, StorageRefused, StorageAway; ClientError for a lost put-if-absent.
        """
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            ParamValidationError,
            PartialCredentialsError,
            SSLError,
        )
        from botocore.parsers import ResponseParserError

        deadline = time.monotonic() + self.budget_s
        attempt = 0
        while True:
            try:
                return call()
            except ClientError as error:
                self._raise_if_final(error, key)
                if _code(error) in EXPIRED:
                    self.client = self._connect()
                last: Exception = error
            except RecursionError as error:  # botocore follows it again and again
                raise StorageRefused("the server sends us elsewhere, and names no region", self.uri, _REGION) from error
            except (NoCredentialsError, PartialCredentialsError) as error:
                raise StorageRefused(
                    "no credentials for the bucket", self.uri, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from error
            except ParamValidationError as error:
                raise StorageRefused(f"no valid bucket or key: {error}", self.uri, "write s3://bucket/prefix") from error
            except (BotoCoreError, OSError) as error:  # refused and cut connections, time-outs, tokens that cannot be fetched
                if isinstance(error, SSLError) and "certificate" in str(error).lower():
                    remedy = "set AWS_CA_BUNDLE to the authority of its certificate, or check AWS_ENDPOINT_URL"
                    raise StorageRefused(f"the server's certificate is not trusted: {error}", self.uri, remedy) from error
                last = error
            attempt += 1
            wait_s = random.uniform(0, min(BACKOFF_S_MAX, BACKOFF_S * 2**attempt))
            if time.monotonic() + wait_s > deadline:
                if isinstance(last, ResponseParserError):
                    raise StorageRefused(f"the answer is no S3 server's: {last}", self.uri, "check AWS_ENDPOINT_URL") from last
                if isinstance(last, ClientError) and _code(last) == SKEWED:
                    raise StorageRefused(f"a clock is off: {_words(last)}", self.uri, "set this machine's clock (NTP)") from last
                raise StorageAway(f"{self.uri}/{key}: {last}") from last
            time.sleep(wait_s)

    def _raise_if_final(self, error: ClientError, key: str) -> None:
        """Sort a server's answer: absent, taken, refused are final; throttling, 5xx, conflicts and expired tokens are not."""
        code = _code(error)
        if code in ABSENT:
            raise NotStored(key) from error
        if code in TAKEN:
            raise error
        where = f"{self.uri}/{key}" if key else self.uri
        if code in REFUSED:
            what, remedy = REFUSED[code]
            raise StorageRefused(f"{what}: {_words(error)}", where, remedy) from error
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
        passing = (status >= 500 and status not in LASTING) or status in PASSING
        if not (passing or code in EXPIRED | {SKEWED, "SlowDown", "RequestTimeout"}):
            remedy = _SPACE if status == 507 else "do what the server says, or ask whoever runs it"
            raise StorageRefused(f"the server refuses: {_words(error)}", where, remedy) from error

    def put_new(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        from botocore.exceptions import ClientError

        try:
            self._write(key, data, media_type, IfNoneMatch="*")
        except ClientError:
            same_bytes_or_raise(self, key, data)
            self._renew(key, data, media_type)

    def _renew(self, key: str, data: bytes, media_type: str) -> None:
        """Give an object that was there already the time of now, unless this is our own write of a moment ago. Not so where a policy
        forbids it: parts are written once, and nobody collects them."""
        stored = self.stat(key)
        if stored is not None and time.time() - stored.modified_s > self.renew_after_s:
            with contextlib.suppress(StorageRefused):
                self.put(key, data, media_type)

    def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        self._write(key, data, media_type)

    def _write(self, key: str, data: bytes, media_type: str, **more: str) -> None:
        """One PUT, with the first checksum that the store takes. Raises: as `_call`."""
        asked = {"Bucket": self.bucket, "Key": self.prefix + checked_key(key), "Body": data, "ContentType": media_type, **more}
        while True:
            kind = self.checksums[0]
            try:
                answer = self._call(lambda: self.client.put_object(**asked, **_checksum(kind, data)), key)  # noqa: B023
            except StorageRefused as refusal:
                if len(self.checksums) == 1 or not any(word in refusal.what.lower() for word in ("md5", "checksum", "digest")):
                    raise
                self.checksums = [other for other in self.checksums if other != kind]  # whatever another thread dropped meanwhile
                continue
            self.versioned = self.versioned or "VersionId" in answer
            return

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        name = self.prefix + checked_key(key)
        more = {} if bytes_max is None else {"Range": f"bytes=0-{bytes_max}"}

        def read() -> bytes:
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=name, **more)["Body"].read()
            return body

        stored = self.stat(key) if bytes_max is not None else None
        if stored is not None and stored.size == 0:
            return b""  # a range over an empty object is an error to S3
        return self._call(read, key)

    def stat(self, key: str) -> Stored | None:
        head = self.head(key)
        return None if head is None else head[0]

    def head(self, key: str) -> tuple[Stored, str] | None:
        """As `stat`, with the ETag, which differs where the bytes do (RFC 9110, 8.8.3). Raises: StorageAway."""
        name = self.prefix + checked_key(key)
        try:
            head = self._call(lambda: self.client.head_object(Bucket=self.bucket, Key=name), key)
        except NotStored:
            return None
        return Stored(key, int(head["ContentLength"]), head["LastModified"].timestamp()), str(head["ETag"])

    def list(self, prefix: str) -> Iterator[Stored]:
        for stored, _ in self.tagged(prefix):
            yield stored

    def tagged(self, prefix: str) -> Iterator[tuple[Stored, str]]:
        """As `list`, each with its ETag. Raises: StorageAway."""
        token: dict[str, str] = {}
        while True:
            page = self._call(lambda: self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix + prefix, **token), prefix)  # noqa: B023
            for entry in page.get("Contents", []):
                if entry["Key"].endswith("/") and not entry["Size"]:
                    continue  # a folder, as consoles draw them
                yield Stored(entry["Key"][len(self.prefix) :], int(entry["Size"]), entry["LastModified"].timestamp()), str(entry["ETag"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        name = self.prefix + checked_key(key)
        self._call(lambda: self.client.delete_object(Bucket=self.bucket, Key=name), key)

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of an object, for seekable reading. Raises: NotStored, StorageAway."""

        def read() -> bytes:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, Range=f"bytes={start}-{stop - 1}")
            body: bytes = answer["Body"].read()
            return body

        return self._call(read, key)


def _checksum(kind: str, data: bytes) -> dict[str, str]:
    """The argument of a PUT that carries this kind of checksum, base64."""
    if kind == "none":
        return {}
    if kind == "crc32":
        name, digest = "ChecksumCRC32", zlib.crc32(data).to_bytes(4, "big")
    elif kind == "sha256":
        name, digest = "ChecksumSHA256", hashlib.sha256(data).digest()
    else:
        name, digest = "ContentMD5", hashlib.md5(data, usedforsecurity=False).digest()
    return {name: base64.b64encode(digest).decode()}


def _words(error: ClientError) -> str:
    """What the server itself says, and its code and status."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    message = str(error.response.get("Error", {}).get("Message", "")).strip()
    return f"{message or 'no words'} ({status} {_code(error)})"


def _code(error: ClientError) -> str:
    """The server's name for what is wrong."""
    return str(error.response.get("Error", {}).get("Code", ""))
