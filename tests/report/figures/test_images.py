"""Each image at its place."""

import numpy as np

from gsvae_tune.report.figures import images, style


def shown(count, height=4, width=2):
    return np.linspace(0, 1, count * height * width, dtype=np.float32).reshape(count, height, width)


def test_images_stand_in_rows_framed_by_gaps():
    made = shown(5)
    with style.applied():
        figure = images.samples([("pair #1", made), ("base #2", made)], columns=3)
        style.encoded(figure, "png")
    page = figure.axes[0].images[0].get_array()
    assert page.shape == (2 * 5 + 1, 3 * 3 + 1)  # a gap of one pixel around each
    np.testing.assert_array_equal(page[1:5, 1:3], made[0])
    np.testing.assert_array_equal(page[6:10, 4:6], made[4])
    assert np.isnan(np.asarray(page)[6:10, 7:9]).all()  # the place of a sixth
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["pair #1", "base #2"]


def test_each_cost_stands_below_its_image():
    made = shown(4, height=3, width=8)
    with style.applied():
        figure = images.reconstructions(
            made, [("pair #1", made, np.array([1.0, 2.0, 3.0, 4.04], dtype=np.float32))]
        )
        style.encoded(figure, "png")
    original, pair = figure.axes
    assert not original.get_xticks().size
    assert [text.get_text() for text in pair.get_xticklabels()] == ["1.0", "2.0", "3.0", "4.0"]
    page = np.asarray(pair.images[0].get_array())
    for place, middle in zip(range(4), pair.get_xticks(), strict=True):
        left, right = round(middle - 3.5), round(middle + 3.5)
        np.testing.assert_array_equal(page[1:4, left : right + 1], made[place])
