from loraline.data.reading.text_normalization import normalize


def test_text_is_normalized() -> None:
    assert normalize("e\u0301") == "\u00e9"
    assert normalize("\ufeffa\r\nb\rc\x00\x1b[0m\td\x7f\ufeff") == "a\nb\nc[0m\td"
