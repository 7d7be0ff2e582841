import gc

import pytest

from tui_lab.core.imports import without_collections


@pytest.mark.parametrize("collecting", [True, False])
def test_collection_is_off_inside_and_as_before_after_it(collecting: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(ImportError), without_collections():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
