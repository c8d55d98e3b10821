"""The cluster's certificates, created with openssl and reused by later starts."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.testcluster.layout import NODE, NODE_ADDRESS, LocalCluster

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
    """One certificate to sign: subject, key usage, alternative names and issuer."""

    name: str
    subject: str
    usage: str = "clientAuth"
    names: str = ""
    issuer: str = "ca"


AUTHORITIES = {"ca": "/CN=testcluster-ca", "front-proxy-ca": "/CN=testcluster-front-proxy-ca"}
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
    Certificate("admin", "/O=system:masters/CN=testcluster-admin"),
    Certificate("controller-manager", "/CN=system:kube-controller-manager"),
    Certificate("scheduler", "/CN=system:kube-scheduler"),
    Certificate("kubelet", f"/O=system:nodes/CN=system:node:{NODE}"),
    Certificate("kube-proxy", "/CN=system:kube-proxy"),
    Certificate("coredns", "/CN=testcluster-coredns"),
    Certificate("kwok", "/CN=testcluster-kwok"),
)
# Without a certificate in its Secret Kueue creates one, and then waits about 20 s until the kubelet has updated the
# Secret in its pod. Kueue requires the authority's name among its alternative names, and an RSA key in PKCS #1 form.
KUEUE_AUTHORITY = "kueue-ca"
KUEUE_WEBHOOK = Certificate(
    "kueue-webhook",
    "/CN=kueue-webhook-service.kueue-system.svc",
    "serverAuth",
    "DNS:kueue-webhook-service.kueue-system.svc",
    KUEUE_AUTHORITY,
)
ACCOUNT_KEY = "service-accounts"


def make(cluster: LocalCluster) -> None:
    """Create what is missing; the certificate of a pair is renamed into place last."""
    cluster.pki.mkdir(mode=0o700, exist_ok=True)
    for name, subject in AUTHORITIES.items():
        if not (cluster.pki / f"{name}.crt").exists():
            _self_sign(cluster.pki, name, subject, _new_key(cluster.pki, name))
    if not (cluster.pki / f"{KUEUE_AUTHORITY}.crt").exists():
        key = cluster.pki / f"{KUEUE_AUTHORITY}.key"
        _openssl("genrsa", "-traditional", "-out", str(key), "2048")
        names = ["-addext", f"subjectAltName=DNS:{KUEUE_AUTHORITY}"]
        _self_sign(cluster.pki, KUEUE_AUTHORITY, f"/O=kueue/CN={KUEUE_AUTHORITY}", ["-key", str(key), *names])
    for certificate in (*SERVERS, *CLIENTS, *USERS, KUEUE_WEBHOOK):
        _sign(cluster.pki, certificate)
    if not (public := cluster.pki / f"{ACCOUNT_KEY}.pub").exists():
        private = cluster.pki / f"{ACCOUNT_KEY}.key"
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(private))
        _openssl("ec", "-in", str(private), "-pubout", "-out", f"{public}.draft")
        Path(f"{public}.draft").rename(public)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _new_key(folder: Path, name: str) -> list[str]:
    """The openssl options that create a certificate's key."""
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(folder / f"{name}.key")]


def _self_sign(folder: Path, name: str, subject: str, options: list[str]) -> None:
    """Create a self-signed CA certificate."""
    usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature"]
    draft = folder / f"{name}.draft"
    _openssl("req", "-x509", *options, "-days", _DAYS, "-subj", subject, *usage, "-out", str(draft))
    draft.rename(folder / f"{name}.crt")


def _sign(folder: Path, certificate: Certificate) -> None:
    if (final := folder / f"{certificate.name}.crt").exists():
        return
    request, extensions, draft = (final.with_suffix(suffix) for suffix in (".csr", ".ext", ".draft"))
    lines = ["basicConstraints=CA:FALSE", "keyUsage=digitalSignature", f"extendedKeyUsage={certificate.usage}"]
    lines += [f"subjectAltName={certificate.names}"] if certificate.names else []
    extensions.write_text("\n".join(lines) + "\n", "utf-8")
    _openssl("req", "-new", *_new_key(folder, certificate.name), "-subj", certificate.subject, "-out", str(request))
    issuer = str(folder / certificate.issuer)
    signer = ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-CAcreateserial", "-days", _DAYS]
    _openssl("x509", "-req", "-in", str(request), *signer, "-extfile", str(extensions), "-out", str(draft))
    draft.rename(final)
    request.unlink()
    extensions.unlink()
