"""SimpleSAMLphp as an identity provider on a server of its own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import urllib3
from lxml import etree

from flask_genesys_auth.saml.metadata import POST, REDIRECT
from flask_genesys_auth.testing.saml_messages import generate_signing_key
from tests.servers import free_port, missing, require

PACKAGED = Path("/etc/simplesamlphp/config.php")
WWW = Path("/usr/share/simplesamlphp/www")
PASSWORD = "ann's password"

_CONFIG = """<?php
require {packaged};
$config = array_merge($config, [
    'baseurlpath' => {base},
    'certdir' => {folder} . '/cert/',
    'loggingdir' => {folder} . '/log/',
    'datadir' => {folder} . '/data/',
    'tempdir' => {folder} . '/temp',
    'metadatadir' => {folder} . '/metadata/',
    'metadata.sources' => array_merge(
        [['type' => 'flatfile']],
        file_exists({trusted}) ? [['type' => 'xml', 'file' => {trusted}]] : []
    ),
    'secretsalt' => {salt},
    'auth.adminpassword' => {salt},
    'logging.handler' => 'file',
    'enable.saml20-idp' => true,
    'module.enable' => ['core' => true, 'saml' => true, 'exampleauth' => true],
    'session.cookie.secure' => false,
    'session.cookie.samesite' => 'Lax',
    'session.phpsession.savepath' => {folder} . '/sessions',
    'store.type' => 'phpsession',
]);
"""
_SOURCES = """<?php
$config = [
    'example-userpass' => [
        'exampleauth:UserPass',
        {ann} => ['uid' => ['ann'], 'mail' => ['ann@acme.example'], 'groups' => ['agents', 'people']],
    ],
];
"""
_HOSTED = """<?php
$metadata['__DYNAMIC:1__'] = array_merge([
    'host' => '__DEFAULT__',
    'privatekey' => 'idp.key',
    'certificate' => 'idp.crt',
    'auth' => 'example-userpass',
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
    'simplesaml.nameidattribute' => 'mail',
    'authproc' => [
        3 => [
            'class' => 'saml:AttributeNameID',
            'attribute' => 'mail',
            'Format' => 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
        ],
    ],
    'SingleSignOnServiceBinding' => [{redirect}, {post}],
    'SingleLogoutServiceBinding' => [{redirect}, {post}],
    'sign.logout' => true,
    'validate.logout' => true,
], json_decode({options}, true));
"""
_ENTITIES = '<md:EntitiesDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata">{}</md:EntitiesDescriptor>'


class SimpleSamlPhp:
    """A running SimpleSAMLphp; its one user is ``ann`` with :data:`PASSWORD`.

    :param folder: for its configuration, logs and sessions.
    """

    user_name = "ann"
    password = PASSWORD
    name_id = "ann@acme.example"

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self._folder = folder
        self.port = free_port()
        self._address = f"{host}:{self.port}"
        self.url = f"http://{self._address}"
        self._process: subprocess.Popen[bytes] | None = None
        self._trusted: dict[str, str] = {}

    def start(self) -> None:
        self._configure()
        with (self._folder / "log" / "php").open("wb") as log:
            self._process = subprocess.Popen(
                # With its cache PHP would go by changed files only two seconds later.
                [require("php", "php-cli"), "-d", "opcache.enable=0", "-S", self._address, "-t", str(WWW)],
                env={**os.environ, "SIMPLESAMLPHP_CONFIG_DIR": str(self._folder / "config")},
                stdout=log,
                stderr=log,
            )
        self._wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)

    @property
    def metadata_url(self) -> str:
        return f"{self.url}/saml2/idp/metadata.php"

    def write_metadata(self, path: Path) -> Path:
        """Write its metadata where a configuration finds them."""
        path.write_bytes(urllib3.request("GET", self.metadata_url, timeout=60).data)
        return path

    def trust(self, entity_id: str, acs_url: str) -> None:
        """Let it answer this service provider."""
        self._trusted[entity_id] = acs_url
        entries = "".join(
            f"$metadata[{_php(name)}] = ['AssertionConsumerService' => {_php(address)}, "
            f"'NameIDFormat' => 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress'];\n"
            for name, address in self._trusted.items()
        )
        (self._folder / "metadata" / "saml20-sp-remote.php").write_text(f"<?php\n{entries}")

    def enter(self, entries: str) -> None:
        """Let it answer the service providers of these entries of ``saml20-sp-remote.php`` alone."""
        self.trust_metadata()
        (self._folder / "metadata" / "saml20-sp-remote.php").write_text(entries)

    def trust_metadata(self, *documents: bytes) -> None:
        """Let it answer the service providers of these metadata, which it reads itself; forget all others."""
        self._trusted.clear()
        (self._folder / "metadata" / "saml20-sp-remote.php").write_text("<?php\n")
        roots = [etree.tostring(etree.fromstring(document)).decode() for document in documents]
        self._trusted_file.write_text(_ENTITIES.format("".join(roots)))

    def be(self, **options: object) -> None:
        """Change its settings from the next request on; others get their initial values.

        :param options: of ``saml20-idp-hosted.php``; a double underscore stands for the dot.
        """
        hosted = _HOSTED.format(
            redirect=_php(REDIRECT),
            post=_php(POST),
            options=_php(json.dumps({name.replace("__", "."): value for name, value in options.items()})),
        )
        (self._folder / "metadata" / "saml20-idp-hosted.php").write_text(hosted)

    def make_key(self, name: str) -> None:
        """Put another key and its certificate beside the first one, which is called ``idp``."""
        key = generate_signing_key("SimpleSAMLphp")
        (self._folder / "cert" / f"{name}.key").write_text(key.private_pem)
        (self._folder / "cert" / f"{name}.crt").write_text(key.certificate_pem)

    @property
    def logout_url(self) -> str:
        """URL that ends the session at the provider and shows its front page."""
        return f"{self.url}/saml2/idp/initSLO.php?RelayState={quote(self.front_url, safe='')}"

    @property
    def front_url(self) -> str:
        return f"{self.url}/module.php/core/frontpage_welcome.php"

    @property
    def _trusted_file(self) -> Path:
        return self._folder / "metadata" / "trusted.xml"

    def _configure(self) -> None:
        for name in ("config", "cert", "log", "data", "temp", "metadata", "sessions"):
            (self._folder / name).mkdir()
        self.make_key("idp")
        config = _CONFIG.format(
            packaged=_php(str(PACKAGED)),
            base=_php(f"{self.url}/"),
            folder=_php(str(self._folder)),
            salt=_php(secrets.token_hex(16)),
            trusted=_php(str(self._trusted_file)),
        )
        (self._folder / "config" / "config.php").write_text(config)
        sources = _SOURCES.format(ann=_php(f"{self.user_name}:{self.password}"))
        (self._folder / "config" / "authsources.php").write_text(sources)
        self.be()
        (self._folder / "metadata" / "saml20-sp-remote.php").write_text("<?php\n")

    def _wait(self) -> None:
        last: object = None
        for _ in range(200):
            try:
                answer = urllib3.request("GET", self.metadata_url, timeout=60, retries=False)
            except urllib3.exceptions.HTTPError as error:
                last = error
                time.sleep(0.05)
                continue
            assert answer.status == 200, answer.data[:2000]
            return
        raise AssertionError(f"SimpleSAMLphp does not answer: {last}")


def _php(text: str) -> str:
    """A PHP string; JSON's differs only in how it reads a dollar sign."""
    return json.dumps(text, ensure_ascii=False).replace("$", "\\$")


@pytest.fixture(scope="session")
def simplesamlphp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleSamlPhp]:
    """A SimpleSAMLphp; skipped where it is not installed."""
    require("php", "php-cli")
    if not (WWW.is_dir() and PACKAGED.is_file()):
        missing("SimpleSAMLphp is not installed: apt-get install simplesamlphp php-xml php-mbstring")
    server = SimpleSamlPhp(tmp_path_factory.mktemp("simplesamlphp"))
    try:
        server.start()
        yield server
    finally:
        server.stop()
