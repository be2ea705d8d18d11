import pytest

from loraline.errors import ConfigurationError
from loraline.sources.registry_address import RegistryAddress


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("models:/dates/7", RegistryAddress("dates", "7", "")),
        ("models:/dates-in-words@champion", RegistryAddress("dates-in-words", "", "champion")),
    ],
)
def test_an_address_names_a_version_or_an_alias(text: str, parsed: RegistryAddress) -> None:
    assert RegistryAddress.parse(text) == parsed
    assert str(parsed) == text


@pytest.mark.parametrize("text", ["models:/dates", "models:/dates/seven", "models:/a/1/b", "models://a/1", "dates"])
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write models:/name/version or models:/name@alias"):
        RegistryAddress.parse(text)
