import torch

from geoaug.scratch import Outputs


def test_buffers_of_one_size_outlive_a_request_for_another() -> None:
    outputs = Outputs(own_pages=True)
    image = outputs.tensor((8, 2**20), torch.uint8)
    place = image.data_ptr()
    del image
    outputs.tensor((5, 2**20), torch.uint8)
    assert outputs.tensor((8, 2**20), torch.uint8).data_ptr() == place


def test_a_buffer_in_use_is_not_given_again() -> None:
    outputs = Outputs()
    first, second = (outputs.tensor((8, 2**20), torch.uint8) for _ in range(2))
    part = first[2:3]
    place = first.data_ptr()
    del first
    assert outputs.tensor((8, 2**20), torch.uint8).data_ptr() not in (place, second.data_ptr())
    assert part.data_ptr() == place + 2 * 2**20


def test_sizes_long_not_asked_for_are_forgotten() -> None:
    outputs = Outputs()
    for rows in range(8, 16):
        outputs.tensor((rows, 2**20), torch.uint8)
    assert sorted(outputs._idle) == [rows * 2**20 for rows in range(12, 16)]
