"""Consumes a real HTTP server that works, fails, hangs and drops, checks what the sender makes of it, and how soon."""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import hmac
import json
import logging
import socket
import ssl
import subprocess
import time

import pytest
from alert_receiver import DRIP, DROP, HANG, PATH, listening

from assay.config.alerts import WebhookConfig
from assay.monitoring.alerts_text import KEY, SIGNATURE, headers
from assay.monitoring.webhook import Webhook, secret

BODY = json.dumps({"alerts": [{"id": "a"}]}).encode()
NOW = dt.datetime(2024, 5, 1, tzinfo=dt.timezone.utc)
QUICK = {"timeout_seconds": 5.0, "attempts": 3, "backoff_seconds": 0.01, "budget_seconds": 10.0}


@pytest.fixture
def receiver():
    with listening() as one:
        yield one


def sent(address, pauses=None, key=None, **changes):
    config = WebhookConfig(**{**QUICK, **changes})
    pause = time.sleep if pauses is None else pauses.append
    return Webhook(address, config, now=lambda: NOW, pause=pause).send(BODY, headers(BODY, "id-1", key))


def test_a_message_is_posted_once_with_its_id_and_a_signature_over_its_bytes(receiver):
    assert sent(receiver.address, key="k3y").delivered
    (post,) = receiver.posts
    assert (post.path, post.content) == (PATH, BODY)
    assert post.headers[KEY] == "id-1"
    assert post.headers["Content-Type"].startswith("application/json")
    assert post.headers[SIGNATURE] == "sha256=" + hmac.new(b"k3y", post.content, hashlib.sha256).hexdigest()


def test_without_a_key_nothing_is_signed(receiver):
    sent(receiver.address)
    assert SIGNATURE not in receiver.posts[0].headers


@pytest.mark.parametrize("failure", [500, 502, 503, 504, 408, 429, DROP])
def test_what_may_pass_is_tried_again_with_longer_and_longer_pauses(receiver, failure):
    receiver.says(failure, failure, 200)
    pauses = []
    outcome = sent(receiver.address, pauses, backoff_seconds=0.1)
    assert (outcome.delivered, outcome.attempts, outcome.error) == (True, 3, None)
    assert 0.05 <= pauses[0] <= 0.15
    assert 0.1 <= pauses[1] <= 0.3
    assert {post.headers[KEY] for post in receiver.posts} == {"id-1"}


def test_pauses_differ_so_that_many_senders_do_not_come_at_once(receiver):
    receiver.says(500)
    pauses = []
    for _ in range(4):
        sent(receiver.address, pauses, attempts=2)
    assert len(set(pauses)) == 4


def test_after_the_last_attempt_it_is_told_what_came_of_it(receiver):
    receiver.says(500)
    outcome = sent(receiver.address)
    assert (outcome.delivered, outcome.attempts, outcome.error, outcome.refused) == (False, 3, "HTTP 500", False)
    assert len(receiver.posts) == 3


@pytest.mark.parametrize(("status", "refused"), [(404, False), (401, False), (410, False), (400, True), (413, True)])
def test_what_will_not_pass_is_not_tried_again_at_once(receiver, status, refused):
    receiver.says(status)
    outcome = sent(receiver.address)
    assert (outcome.delivered, outcome.attempts, outcome.refused) == (False, 1, refused)
    assert outcome.error == f"HTTP {status}"
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("told", ["1", email.utils.format_datetime(NOW + dt.timedelta(seconds=1), usegmt=True)])
@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_says_when_is_heeded(receiver, status, told):
    receiver.says((status, {"Retry-After": told}), 200)
    pauses = []
    assert sent(receiver.address, pauses).delivered
    assert pauses == [1.0]


def test_a_receiver_that_asks_for_more_than_a_run_can_wait_is_left_alone_so_long(receiver):
    receiver.says((429, {"Retry-After": "3600"}))
    pauses = []
    outcome = sent(receiver.address, pauses)
    assert (outcome.attempts, outcome.pause_seconds, pauses) == (1, 3600.0, [])


@pytest.mark.parametrize(
    ("told", "pause"),
    [("99999999999999999999", 21600.0), ("-5", None), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)
def test_what_a_receiver_says_of_its_pause_is_not_believed_blindly(receiver, told, pause):
    receiver.says((429, {"Retry-After": told}))
    assert sent(receiver.address, attempts=1).pause_seconds == pause


@pytest.mark.parametrize("way", [HANG, DRIP])
def test_a_receiver_that_does_not_come_to_an_end_costs_no_more_than_its_time(receiver, way):
    receiver.says(way)
    started = time.monotonic()
    outcome = sent(receiver.address, timeout_seconds=0.2, attempts=2)
    assert time.monotonic() - started < 3.0  # and not as long as it goes on
    assert (outcome.delivered, outcome.attempts, outcome.error) == (False, 2, "no answer within 0.2 s")


def test_all_attempts_together_keep_to_the_budget(receiver):
    receiver.says(HANG)
    started = time.monotonic()
    outcome = sent(receiver.address, timeout_seconds=0.3, attempts=20, budget_seconds=0.5)
    assert time.monotonic() - started < 3.0  # and not 20 times 0.3 s
    assert not outcome.delivered
    webhook = Webhook(receiver.address, WebhookConfig(**{**QUICK, "budget_seconds": 0.05}), now=lambda: NOW)
    time.sleep(0.06)
    late = webhook.send(BODY, {})
    assert (late.attempts, late.delivered) == (0, False)
    assert "alerts.webhook.budget_seconds" in late.error


def test_a_closed_port_is_told_in_words_of_the_system(receiver):
    receiver.close()
    outcome = sent(receiver.address)
    assert outcome.attempts == 3
    assert outcome.error == "no connection, or it was dropped: Connection refused"


def test_a_name_that_nobody_knows_is_told_so(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert sent(f"http://nowhere.invalid{PATH}").error == "no connection, or it was dropped: its name is not known"


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_the_same_host_is_followed_with_body_and_headers(receiver, status):
    receiver.answer = lambda post, _: 200 if post.path == "/moved" else (status, {"Location": "/moved"})
    assert sent(receiver.address, key="k3y").delivered
    first, second = receiver.posts
    assert (second.content, second.headers[SIGNATURE]) == (first.content, first.headers[SIGNATURE])


def test_a_redirect_to_another_host_is_not_followed(receiver):
    with listening() as other:
        for place in (other.address, other.address.replace("127.0.0.1", "localhost")):
            receiver.says((307, {"Location": place}))
            outcome = sent(receiver.address, key="k3y")
            assert (outcome.delivered, outcome.attempts) == (False, 1)
            assert outcome.error == "HTTP 307 to another place, which is not followed"
        assert other.posts == []


def test_a_redirect_that_would_change_the_method_or_never_ends_is_not_followed(receiver):
    receiver.says((302, {"Location": "/moved"}))
    assert sent(receiver.address).error == "HTTP 302"
    receiver.says((307, {"Location": "/moved"}))
    assert sent(receiver.address).error == "HTTP 307 more often than is followed"


def test_a_certificate_that_nobody_vouches_for_is_refused(receiver, tmp_path):
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    try:
        subprocess.run(
            [*made, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    receiver._server.socket = context.wrap_socket(receiver._server.socket, server_side=True)
    outcome = sent(receiver.address.replace("http:", "https:"))
    assert (outcome.delivered, outcome.attempts) == (False, 1)
    assert outcome.error == "the receiver's certificate is not trusted, or TLS failed"
    assert receiver.posts == []


@pytest.mark.parametrize(
    "address", ["ftp://host/x", "hushhush", "http://", "http://[::1", "http://host:99999/x", "file:///etc"]
)
def test_what_is_no_address_is_refused_without_being_told(address):
    with pytest.raises(ValueError, match="ASSAY_WEBHOOK_URL holds is no address") as caught:
        sent(address)
    assert address not in str(caught.value)


@pytest.mark.parametrize("failure", [200, 404, 500, DROP, HANG, "closed", (429, {"Retry-After": "1"})])
def test_the_address_is_in_no_error_and_in_no_log_however_much_is_logged(receiver, failure, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "urllib3.connectionpool", "urllib3.util.retry", "requests"):
        caplog.set_level(logging.DEBUG, logger=name)
    receiver.close() if failure == "closed" else receiver.says(failure)
    outcome = sent(receiver.address, [], key="k3y-hushhush", timeout_seconds=0.2 if failure == HANG else 5.0)
    assert "hushhush" not in f"{caplog.text} {outcome}"


def test_a_secret_comes_from_the_environment_or_from_a_file_that_it_names(monkeypatch, tmp_path):
    monkeypatch.delenv("HOOK", raising=False)
    monkeypatch.delenv("HOOK_FILE", raising=False)
    assert secret("HOOK") is None
    (tmp_path / "hook").write_text("http://there/x\n", encoding="utf-8")
    monkeypatch.setenv("HOOK_FILE", str(tmp_path / "hook"))
    assert secret("HOOK") == "http://there/x"
    monkeypatch.setenv("HOOK", "http://here/x")
    assert secret("HOOK") == "http://here/x"
    monkeypatch.setenv("HOOK", "")
    monkeypatch.setenv("HOOK_FILE", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="HOOK_FILE names cannot be read"):
        secret("HOOK")
