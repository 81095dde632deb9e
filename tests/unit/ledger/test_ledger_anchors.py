"""Anchors: heads reach somebody else, over real connections, and the alarm rings when they do not."""

import base64
import shutil
import socketserver
import subprocess
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from orchestration.ledger.anchoring import NO_TARGET, anchor_newest, held_anchors, overdue
from orchestration.ledger.checkpoint import open_note, parse
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.verification import verify
from orchestration.settings import Settings


@contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def http_server(answer):
    """A server on loopback; `answer(body)` gives status and body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            status, content = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    return HTTPServer(("127.0.0.1", 0), Handler)


class MailHandler(socketserver.StreamRequestHandler):
    """As much of an SMTP server as takes one mail."""

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().strip().upper():
            if line.startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (part := self.rfile.readline()) != b".\r\n":
                    lines.append(part)
                self.server.mails.append(b"".join(lines))
            self.wfile.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 ok\r\n")
            if line.startswith(b"QUIT"):
                return


def test_without_a_target_the_alarm_says_what_goes_unseen(tenant):
    with tenant.lake() as connection:
        assert overdue(connection, tenant.settings) == []
        tenant.decide(connection)
        assert anchor_newest(connection, tenant.settings) == []
        assert overdue(connection, tenant.settings) == [NO_TARGET]


def test_heads_go_to_the_folder_and_back_into_verification(tenant, tmp_path):
    folder = tmp_path / "mount"
    given = Settings(home=tenant.home, anchor_folder=folder)
    with tenant.lake() as connection:
        tenant.decide(connection)
        (outcome,) = anchor_newest(connection, given)
        assert "is it mounted" in outcome.error
        assert overdue(connection, given) == ["folder: no checkpoint was ever anchored there"]
        with pytest.raises(LedgerError, match="is it mounted"):
            held_anchors(given)
        folder.mkdir()
        (outcome,) = anchor_newest(connection, given)
        assert outcome.error is None and overdue(connection, given) == []
        assert anchor_newest(connection, given) == []  # it has that head, and is not half way to being overdue
        tenant.book["C1"].volume = 500
        tenant.decide(connection)
        anchor_newest(connection, given)
        held = held_anchors(given)
        key = tenant.key(connection)
        assert [open_note(note, key).size for _, note in held] == [25, 27]
        assert verify(connection, key, held).checked["leaves under an anchor"] == 27


def test_the_alarm_rings_when_the_interval_has_passed(tenant, tmp_path):
    given = Settings(home=tenant.home, anchor_folder=tmp_path, anchor_hours=6)
    with tenant.lake() as connection:
        tenant.decide(connection)
        anchor_newest(connection, given)
        (at,) = connection.execute("select anchored_at from lake.ops.ledger_anchors").fetchone()
        assert overdue(connection, given, at + timedelta(hours=6)) == []
        (late,) = overdue(connection, given, at + timedelta(hours=6, minutes=1))
        assert late.startswith("folder: the last checkpoint") and "due every 6 h" in late
        assert len(anchor_newest(connection, given, at + timedelta(hours=4))) == 1  # the same head again, in time
        assert overdue(connection, given, at + timedelta(hours=9)) == []


def test_a_ledger_that_does_not_go_on_from_the_anchored_head_is_not_anchored(tenant, tmp_path):
    """A fork or a restored backup must not become what the auditor holds next."""
    folder = tmp_path / "mount"
    folder.mkdir()
    given = Settings(home=tenant.home, anchor_folder=folder)
    with tenant.lake() as connection:
        tenant.decide(connection)
    shutil.copytree(tenant.home, tmp_path / "backup")
    with tenant.lake() as connection:
        tenant.book["C1"].volume = 500
        tenant.decide(connection)
        anchor_newest(connection, given)
    shutil.rmtree(tenant.home)
    shutil.copytree(tmp_path / "backup", tenant.home)
    with tenant.lake() as connection:
        (outcome,) = anchor_newest(connection, given)
        assert "does not continue" in outcome.error
        tenant.book["C1"].volume = 600
        tenant.decide(connection)
        (outcome,) = anchor_newest(connection, given)
        assert "does not continue" in outcome.error
        assert any("are not those that were anchored" in text for text in verify(connection, tenant.key(connection), held_anchors(given)).findings)


def test_a_webhook_takes_the_note_and_refusals_are_told(tenant):
    taken = []

    def answer(body):
        taken.append(body.decode())
        return (204, b"") if len(taken) == 1 else (503, b"")

    with tenant.lake() as connection, serving(http_server(answer)) as port:
        given = Settings(home=tenant.home, anchor_webhook=f"http://127.0.0.1:{port}/")
        tenant.decide(connection)
        assert anchor_newest(connection, given)[0].receipt == "HTTP 204"
        assert open_note(taken[0], tenant.key(connection)).size == 25
        tenant.decide(connection)
        assert anchor_newest(connection, given)[0].error == "the anchor's server answered HTTP 503"
    with tenant.lake() as connection:
        assert "cannot be reached" in anchor_newest(connection, given)[0].error
        odd = Settings(home=tenant.home, anchor_webhook="file:///etc/passwd")
        assert "begins with https://" in anchor_newest(connection, odd)[0].error


def test_the_auditor_gets_a_mail_with_the_note(tenant):
    with socketserver.TCPServer(("127.0.0.1", 0), MailHandler) as server:
        server.mails = []
        with tenant.lake() as connection, serving(server) as port:
            given = Settings(home=tenant.home, anchor_email="auditor@example.org", anchor_smtp=f"smtp://127.0.0.1:{port}")
            tenant.decide(connection)
            (outcome,) = anchor_newest(connection, given)
            assert outcome.error is None
        assert "Subject: Checkpoint of segline.invalid" in server.mails[0].decode()
    wrong = Settings(home=tenant.home, anchor_email="a@example.org", anchor_smtp="smtp://user:secret@", anchor_hours=0)
    with tenant.lake() as connection:
        error = anchor_newest(connection, wrong)[0].error or ""
        assert "SEGLINE_ANCHOR_SMTP must be" in error and "secret" not in error + repr(wrong)


@pytest.fixture
def authority(tmp_path):
    """A time stamp authority of our own: openssl signs what it is asked to."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    config = tmp_path / "tsa.cnf"
    config.write_text(
        f"[tsa]\ndefault_tsa = one\n[one]\nserial = {tmp_path}/serial\ncrypto_device = builtin\nsigner_digest = sha256\n"
        "default_policy = 1.2.3.4\ndigests = sha256, sha512\naccuracy = secs:1\nordering = no\ntsa_name = no\n"
        "ess_cert_id_chain = no\n[req]\ndistinguished_name = dn\nx509_extensions = ext\nprompt = no\n[dn]\nCN = authority\n"
        "[ext]\nextendedKeyUsage = critical,timeStamping\nkeyUsage = critical,digitalSignature\n"
    )
    (tmp_path / "serial").write_text("01\n")
    run = lambda *arguments: subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)  # noqa: E731
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config", "tsa.cnf", "-keyout", "k.pem", "-out", "c.pem")

    def answer(body):
        (tmp_path / "q.tsq").write_bytes(body)
        run("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "q.tsq", "-signer", "c.pem", "-inkey", "k.pem", "-out", "r.tsr")
        return 200, (tmp_path / "r.tsr").read_bytes()

    return answer


def test_a_time_stamp_is_kept_that_openssl_verifies(tenant, tmp_path, authority):
    pytest.importorskip("rfc3161_client")
    with tenant.lake() as connection, serving(http_server(authority)) as port:
        given = Settings(home=tenant.home, anchor_timestamp_url=f"http://127.0.0.1:{port}/")
        tenant.decide(connection)
        (outcome,) = anchor_newest(connection, given)
        assert outcome.error is None
        note = connection.execute("select note from lake.ops.ledger_checkpoints").fetchone()[0]
    (tmp_path / "note").write_text(note)
    (tmp_path / "response").write_bytes(base64.b64decode(outcome.receipt))
    command = ["openssl", "ts", "-verify", "-data", "note", "-in", "response", "-CAfile", "c.pem"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "note").write_text(note.replace("25", "26"))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0
    assert parse(note).size == 25


def test_an_authority_that_answers_something_else_is_refused(tenant, authority):
    pytest.importorskip("rfc3161_client")
    kept = []

    def stale(body):
        if not kept:
            kept.append(authority(body))
        return kept[0]

    with tenant.lake() as connection:
        tenant.decide(connection)
        for answer, error in ((lambda body: (200, b"no time stamp"), "sent no time stamp"), (stale, None), (stale, "something else")):
            with serving(http_server(answer)) as port:
                given = Settings(home=tenant.home, anchor_timestamp_url=f"http://127.0.0.1:{port}/", anchor_hours=0)
                found = anchor_newest(connection, given)[0].error
                assert (found is None) if error is None else (error in found), found
