"""Cases that are most like a case, and places that are most like a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError, StoreError
from featlift.evaluation.classification.embeddings import embeddings_of, input_of
from featlift.evaluation.classification.neighbours import nearest_by_cosine
from featlift.evaluation.featdice.segmentation import cosine_similarity
from featlift.store.case import Case, CaseLayer
from featlift.store.cells import CellGrid
from featlift.store.features import features_of, grid_of, layer_of
from featlift.store.reading import Store

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """A cell of a case.

    Attributes:
        id: case id.
        similarity: cosine of its feature with the one that was looked for.
        cell: (d, h, w) in the dense features.
        voxel: (x, y, z): column, row and slice of the cell's centre in the stored scan, from 0, rounded.
        point: (x, y, z) of its centre in LPS millimetres, None where the scan's geometry is unknown.
        failure: why the case has no such place; empty if it has.
    """

    id: str
    similarity: float = float("nan")
    cell: tuple[int, int, int] | None = None
    voxel: tuple[int, int, int] | None = None
    point: Point | None = None
    failure: str = ""


def nearest_cases(store: Store, case_id: str, wanted: str | None = None, top: int = 10) -> list[tuple[str, float]]:
    """The other cases of a store by cosine of their embeddings with that of a case, the most similar first.

    Args:
        store: of the features.
        case_id: what to look for.
        wanted: what of the features, see `input_of`.
        top: how many.

    Raises:
        OptionError: no such case, or an input that the backbone has not.
    """
    case = _case(store, case_id)
    others = [name for name in store if name != case.id]
    if not others:
        raise OptionError(f"{store.path} holds no case but {case.id}: nothing to retrieve")
    vectors = embeddings_of(store, [case.id, *others], input_of(store, wanted))
    similarity, rows = nearest_by_cosine(vectors[:1], vectors[1:], min(top, len(others)))
    return [(others[row], float(value)) for row, value in zip(rows[0], similarity[0], strict=True)]


def place_at(
    store: Store,
    case_id: str,
    voxel: Sequence[float] | None = None,
    point: Sequence[float] | None = None,
    layer: int | None = None,
) -> Place:
    """The cell of a case whose centre is nearest to a voxel or a point.

    Args:
        store: of the features.
        case_id: the case.
        voxel: (x, y, z): column, row and slice of the stored scan, from 0.
        point: (x, y, z) in LPS millimetres, instead.
        layer: absolute index; None takes the deepest.

    Raises:
        OptionError: no such case or layer, both or neither of voxel and point, or one outside of the scan.
        StoreError: a point in a case of unknown geometry, or a store that keeps no dense features.
    """
    store.require("dense")
    case = _case(store, case_id)
    chosen = layer_of(case, layer)
    if (voxel is None) == (point is None) or len(voxel or point or ()) != 3:
        raise OptionError("give a place as a voxel x,y,z or as a point x,y,z, and not both")
    if point is not None:
        if case.scan_affine is None:
            raise StoreError(
                f"case {case.id} has no geometry, so a point in millimetres has no place in it: give a voxel"
            )
        index = np.linalg.solve(case.scan_affine, [*point, 1.0])[:3]
    else:
        assert voxel is not None
        index = np.array(voxel[::-1], dtype=np.float64)
    grid = grid_of(case, chosen)
    if not np.isfinite(index).all() or (index < -0.5).any() or (index > np.array(grid.voxels) - 0.5).any():
        shown = ",".join(f"{value:.4g}" for value in (point or voxel or ()))
        size = " x ".join(map(str, grid.voxels[::-1]))
        raise OptionError(f"{shown} is outside of the stored scan of {case.id}, which has {size} voxels (x, y, z)")
    return _place(case, chosen, grid, grid.cell_at(np.round(index).astype(int).tolist()), 1.0)


def nearest_places(store: Store, place: Place, layer: int | None = None) -> Iterator[Place]:
    """In every other case the cell whose feature is most like that of a place, in the order of the store.

    Cases are read one after the other: memory is that of one case's features.

    Args:
        store: of the features.
        place: as `place_at` gives it.
        layer: absolute index; None takes the deepest.

    Yields:
        A place for each case, or why it has none.

    Raises:
        OptionError: no such case or layer.
        StoreError: the features of the place itself are damaged.
    """
    case = _case(store, place.id)
    assert place.cell is not None
    d, h, w = place.cell
    prototype = features_of(layer_of(case, layer))[:, d, h, w]
    return _nearest(store, case.id, prototype, layer)


def _nearest(store: Store, own: str, prototype: NDArray[np.float32], layer: int | None) -> Iterator[Place]:
    for case_id in store:
        if case_id == own:
            continue
        try:
            case = store[case_id]
            chosen = layer_of(case, layer)
            similarity = cosine_similarity(features_of(chosen), prototype)
            best = np.unravel_index(int(similarity.argmax()), similarity.shape)
            d, h, w = (int(index) for index in best)
            yield _place(case, chosen, grid_of(case, chosen), (d, h, w), float(similarity[d, h, w]))
        except StoreError as error:
            yield Place(case_id, failure=str(error))


def _place(case: Case, layer: CaseLayer, grid: CellGrid, cell: tuple[int, int, int], similarity: float) -> Place:
    centre = [offset + stride * index for offset, stride, index in zip(grid.offset, grid.stride, cell, strict=True)]
    z, y, x = (min(round(value), size - 1) for value, size in zip(centre, grid.voxels, strict=True))
    point = None
    if layer.affine is not None:
        a, b, c = (layer.affine @ [*cell, 1.0])[:3].tolist()
        point = (a, b, c)
    return Place(case.id, similarity, cell, (x, y, z), point)


def _case(store: Store, case_id: str) -> Case:
    if case_id not in store:
        raise OptionError(f"{store.path} has no case {case_id!r}; `featlift info` lists its {len(store)}")
    return store[case_id]
