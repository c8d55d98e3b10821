"""The bed's certificates, made with openssl and kept for the next life."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bed.layout import NODE, NODE_ADDRESS, Bed

_DAYS = "3650"
_LOCAL = "DNS:localhost,IP:127.0.0.1"
_API_NAMES = ",".join(
    [
        *(f"DNS:kubernetes{tail}" for tail in ("", ".default", ".default.svc", ".default.svc.cluster.local")),
        f"{_LOCAL},IP:10.96.0.1,IP:{NODE_ADDRESS}",
    ]
)


@dataclass(frozen=True)
class Certificate:
    """One certificate to be signed: for whom, by whom, for what."""

    name: str
    subject: str
    usage: str = "clientAuth"
    names: str = ""
    issuer: str = "ca"


AUTHORITIES = {"ca": "/CN=bed-ca", "front-proxy-ca": "/CN=bed-front-proxy-ca"}
SERVERS = (
    Certificate("apiserver", "/CN=kube-apiserver", "serverAuth", _API_NAMES),
    Certificate(
        "kubelet-server", f"/O=system:nodes/CN=system:node:{NODE}", "serverAuth", f"DNS:{NODE},IP:{NODE_ADDRESS}"
    ),
)
CLIENTS = (
    Certificate("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client"),
    Certificate("front-proxy-client", "/CN=front-proxy-client", issuer="front-proxy-ca"),
)
# Each of these also gets a kubeconfig.
USERS = (
    Certificate("admin", "/O=system:masters/CN=bed-admin"),
    Certificate("controller-manager", "/CN=system:kube-controller-manager"),
    Certificate("scheduler", "/CN=system:kube-scheduler"),
    Certificate("kubelet", f"/O=system:nodes/CN=system:node:{NODE}"),
    Certificate("kube-proxy", "/CN=system:kube-proxy"),
    Certificate("coredns", "/CN=bed-coredns"),
    Certificate("kwok", "/CN=bed-kwok"),
)
# Kueue makes its webhook's certificate itself when its Secret has none, and then waits until the kubelet has brought
# the new Secret into its pod: 20 s of every start. Its checks want the authority's own name among its names, and read
# the authority's key in the old form of RSA alone.
KUEUE_AUTHORITY = "kueue-ca"
KUEUE_WEBHOOK = Certificate(
    "kueue-webhook",
    "/CN=kueue-webhook-service.kueue-system.svc",
    "serverAuth",
    "DNS:kueue-webhook-service.kueue-system.svc",
    KUEUE_AUTHORITY,
)
ACCOUNT_KEY = "service-accounts"


def make(bed: Bed) -> None:
    """Make what is missing; the last file of a pair is written last, by renaming it."""
    bed.pki.mkdir(mode=0o700, exist_ok=True)
    for name, subject in AUTHORITIES.items():
        if not (bed.pki / f"{name}.crt").exists():
            _sign_itself(bed.pki, name, subject, _new_key(bed.pki, name))
    if not (bed.pki / f"{KUEUE_AUTHORITY}.crt").exists():
        key = bed.pki / f"{KUEUE_AUTHORITY}.key"
        _openssl("genrsa", "-traditional", "-out", str(key), "2048")
        names = ["-addext", f"subjectAltName=DNS:{KUEUE_AUTHORITY}"]
        _sign_itself(bed.pki, KUEUE_AUTHORITY, f"/O=kueue/CN={KUEUE_AUTHORITY}", ["-key", str(key), *names])
    for certificate in (*SERVERS, *CLIENTS, *USERS, KUEUE_WEBHOOK):
        _sign(bed.pki, certificate)
    if not (public := bed.pki / f"{ACCOUNT_KEY}.pub").exists():
        private = bed.pki / f"{ACCOUNT_KEY}.key"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private))
        _openssl("ec", "-in", str(private), "-pubout", "-out", f"{public}.draft")
        Path(f"{public}.draft").rename(public)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _new_key(folder: Path, name: str) -> list[str]:
    """The options that make a certificate's key along with it."""
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(folder / f"{name}.key")]


def _sign_itself(folder: Path, name: str, subject: str, options: list[str]) -> None:
    """Make the certificate of an authority."""
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
    draft = folder / f"{name}.draft"
    _openssl("req", "-x509", *options, "-days", _DAYS, "-subj", subject, *usage, "-out", str(draft))
    draft.rename(folder / f"{name}.crt")


def _sign(folder: Path, wanted: Certificate) -> None:
    if (final := folder / f"{wanted.name}.crt").exists():
        return
    request, extensions, draft = (final.with_suffix(suffix) for suffix in (".csr", ".ext", ".draft"))
    lines = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", f"extendedKeyUsage={wanted.usage}"]
    lines += [f"subjectAltName={wanted.names}"] if wanted.names else []
    extensions.write_text("\n".join(lines) + "\n", "utf-8")
    _openssl("req", "-new", *_new_key(folder, wanted.name), "-subj", wanted.subject, "-out", str(request))
    issuer = str(folder / wanted.issuer)
    signer = ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-CAcreateserial", "-days", _DAYS]
    _openssl("x509", "-req", "-in", str(request), *signer, "-extfile", str(extensions), "-out", str(draft))
    draft.rename(final)
    request.unlink()
    extensions.unlink()
