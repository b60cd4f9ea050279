"""Consumes notifications with awkward texts and figures, checks the line, the JSON and the signature made of them."""

from __future__ import annotations

import json
import math

from alert_context import day, notification

from assay.monitoring.alerts import Kind
from assay.monitoring.alerts_text import LINE, SIGNATURE, body, headers, line
from assay.monitoring.findings import Level


def made(*told, message_id="m"):
    return json.loads(body(told, message_id, dataset="homes", target="price"))


def test_a_notification_is_one_line():
    one = notification(0, Level.CRITICAL, kind=Kind.ESCALATED, subject="rooms", raised_at=day(1))
    assert line(one) == "CRITICAL escalated: drift.psi of rooms (price, 2024-01-02): PSI 0.3 > 0.2"
    of_all = notification(0, subject="", rule="health")
    assert line(of_all) == "HIGH opened: health (price, 2024-01-01): PSI 0.3 > 0.2"


def test_breaks_in_data_make_no_second_line_and_a_long_text_is_cut():
    told = line(notification(0, subject="a\nERROR fake\r\x1b[31m\u2028b", message="x" * 1000))
    assert len(told.splitlines()) == 1
    assert "\x1b" not in told
    assert len(told) == LINE
    assert told.endswith("x...")


def test_a_message_has_a_text_for_chats_and_all_figures_for_programs():
    one = notification(7, seen=3)
    tree = made(one)
    assert (tree["id"], tree["dataset"], tree["target"]) == ("m", "homes", "price")
    assert tree["text"] == line(one).replace(">", "&gt;")
    assert tree["alerts"] == [
        {
            "id": "id-007",
            "alert": "alert-007",
            "kind": "opened",
            "rule": "drift.psi",
            "subject": "column 7",
            "level": "HIGH",
            "value": 0.3,
            "limit": 0.2,
            "message": "PSI 0.3 > 0.2",
            "opened_at": "2024-01-08T06:00:00+00:00",
            "raised_at": "2024-01-08T06:00:00+00:00",
            "seen": 3,
        }
    ]


def test_a_digest_has_a_line_for_each():
    told = [notification(number, message="fine") for number in range(3)]
    assert made(*told)["text"].split("\n") == ["3 alerts of homes:", *(line(one) for one in told)]


def test_data_calls_nobody_in_a_chat():
    text = made(notification(0, subject="<!channel> & <https://evil|x>"))["text"]
    assert "<" not in text
    assert "&lt;!channel&gt; &amp; &lt;https://evil|x&gt;" in text


def test_what_json_has_no_number_for_is_null():
    for value in (math.nan, math.inf, None):
        (told,) = made(notification(0, value=value, limit=value))["alerts"]
        assert (told["value"], told["limit"]) == (None, None)


def test_letters_of_all_languages_are_sent_as_they_are_and_bytes_are_the_same_each_time():
    one = notification(0, subject="Größe 東京")
    content = body([one], "m", dataset="homes", target="price")
    assert "Größe 東京" in content.decode()
    assert content == body([one], "m", dataset="homes", target="price")


def test_the_signature_is_that_of_a_published_example():
    # RFC 4231, test case 2
    signed = headers(b"what do ya want for nothing?", "m", "Jefe")[SIGNATURE]
    assert signed == "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
