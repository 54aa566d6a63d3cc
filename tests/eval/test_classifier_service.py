"""A personal classifier behind HTTP: the same answers as in Python, and hostile images."""

import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eval.classifier_service import MOST_PIXELS, PATH, classifier_service
from eval.commands import serve_model
from pfedmoap.inference import PersonalizedClassifier
from pfedmoap.serving.listener import Listener
from tests.helpers.serving import request, running


@pytest.fixture(scope="module")
def classifier(finished_run: Path) -> PersonalizedClassifier:
    return PersonalizedClassifier.load(finished_run, 1, device="cpu")


@pytest.fixture(scope="module")
def port(classifier: PersonalizedClassifier) -> Iterator[int]:
    with Listener(classifier_service(classifier)) as listener, running(listener):
        yield listener.port


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def picture() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_same_answer_as_in_python(kind: str, port: int, classifier: PersonalizedClassifier):
    content = encoded(picture(), kind)
    status, reply, headers = request(port, "POST", PATH, content)
    assert (status, headers["content-type"]) == (200, "application/json")
    answer = json.loads(reply)
    (expected,) = classifier.classify([content])
    assert answer["class"] == expected.ranking[0][0]
    assert list(answer) == ["class", "probabilities"]
    assert list(answer["probabilities"].items()) == list(expected.ranking)


def test_photographs_are_turned_as_their_exif_says(port: int):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = picture().transpose(Image.Transpose.ROTATE_90)
    answers = [
        json.loads(request(port, "POST", PATH, content)[1])
        for content in (encoded(upright, exif=exif), encoded(picture()))
    ]
    assert answers[0] == answers[1]


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\x00" * 1000)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"{" * 10_000, "not an image in a format that is taken here: "),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encoded(picture(), "JPEG2000"), "not an image"),
        (bomb(5000, MOST_PIXELS // 5000 + 1), f"at most {MOST_PIXELS} are decoded"),
        (bomb(2**30, 2**30), "enormous size"),
        (bomb(100, 100), ""),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, message: str, port: int):
    status, reply, _ = request(port, "POST", PATH, content)
    assert status == 400
    assert message in json.loads(reply)["error"]
    assert request(port, "POST", PATH, encoded(picture()))[0] == 200


def test_the_document_describes_question_and_answer(port: int):
    described = json.loads(request(port, "GET", "/openapi.json")[1])
    assert described["openapi"].startswith("3.1")
    asked = described["paths"][PATH]["post"]
    assert set(asked["requestBody"]["content"]) == {"image/*"}
    schema = asked["responses"]["200"]["content"]["application/json"]["schema"]
    answer = json.loads(request(port, "POST", PATH, encoded(picture()))[1])
    assert set(answer) == set(schema["properties"]) == set(schema["required"])
    assert {"400", "401", "408", "413", "503"} <= set(asked["responses"])
    assert "security" not in described


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--client", "99"], "has no client 99"),
        (["--client", "1", "--host", "0.0.0.0"], "give --token_file"),
        (["--client", "1", "--ssl_keyfile", "key.pem", "--device", "cpu"], "--ssl_certfile"),
        (["--client", "1", "--port", "99999", "--device", "cpu"], "cannot listen"),
    ],
)
def test_the_command_fails_with_a_message(
    options: list[str], message: str, finished_run: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        serve_model.main([str(finished_run), *options])
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1


def test_the_command_says_where_it_serves(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    served: list[str] = []
    monkeypatch.setattr(Listener, "serve_forever", lambda listener: served.append(listener.url))
    options = ["--client", "1", "--port", "0", "--device", "cpu"]
    serve_model.main([str(finished_run), *options])
    shown = f"client 1 of {finished_run} at {served[0]}; stop with Ctrl-C\n"
    assert capsys.readouterr().out == shown
    assert not served[0].endswith(":0")
