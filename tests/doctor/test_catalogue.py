"""docs/doctor.md says what the doctor says."""

from doctor import catalogue


def test_the_page_is_up_to_date():
    assert catalogue.text() == catalogue.FILE.read_text(), "PYTHONPATH=tests python -m doctor.catalogue writes it anew"
