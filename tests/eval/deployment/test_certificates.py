"""The files of a federation's security."""

import ssl

from eval.deployment.certificates import certificates_in, make_keys
from pfedmoap.engine.flower.control import public_key


def test_the_servers_certificate_is_the_authoritys_and_private_files_are_private(tmp_path):
    make_keys(tmp_path, ["localhost", "127.0.0.1"], ["site-a"])
    files = certificates_in(tmp_path)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    context = ssl.create_default_context(cafile=str(files.root))
    assert len(context.get_ca_certs()) == 1
    private = ("server-key.pem", "server.key", "private/site-a.key")
    assert all((tmp_path / name).stat().st_mode & 0o077 == 0 for name in private)


def test_a_site_is_added_without_touching_what_is_there(tmp_path):
    make_keys(tmp_path, ["localhost"], ["site-a"])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    make_keys(tmp_path, ["localhost"], ["site-a", "site-b"])
    assert all(file.read_bytes() == content for file, content in before.items())
    keys = {public_key(tmp_path / "sites" / f"site-{name}.pub") for name in "ab"}
    assert len(keys) == 2
