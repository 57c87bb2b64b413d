import pytest


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write tests/jit/recorded/ anew, from what is emitted now")


@pytest.fixture
def record(request):
    return request.config.getoption("--record")
