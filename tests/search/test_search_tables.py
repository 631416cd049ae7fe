"""`giidnet list space`: what it prints is what there is."""

from itertools import product

import pytest

from configs.load import load_config
from giidnet import main
from search.network import alone_network
from search.tables import cost_ranges
from search_space.cost import count_cost
from search_space.genotype import Genotype, SpaceShape

SMALL = ["space.cells=2", "space.slots=1", "space.channels=[64,128]", "space.strides=[2,1]", "space.dilations=[1,2]",
         "space.width=0.0625", "forgeries.image_size=32", "space.operations=[sep3,relu_sep5]"]
CHOICES = ["space.streams=[[plain],[plain,bayar]]", "space.attention=[[],[local]]"]


@pytest.mark.parametrize("further", [[], CHOICES, CHOICES[:1]], ids=["slots", "choices", "streams"])
def test_ranges_are_those_of_all_whole_networks(further):
    config = load_config("quick", [*SMALL, *further])
    space = SpaceShape.of(config.space)
    costs = [count_cost(alone_network(Genotype.from_sample(dict(zip(space.options(), names, strict=True)), space),
                                     config.space.width, config.search.streams), (1, 3, 32, 32), False)
             for names in product(*space.options().values())]
    assert len(costs) == space.size
    ranges = cost_ranges(config)
    assert list(ranges) == ["extraction block", *(["what search.limits counts"] if further else []),
                            "whole search network"]
    least, largest = ranges["whole search network"]
    for key in ("params", "flops"):
        found = [getattr(cost, key) for cost in costs]
        assert (getattr(least, key), getattr(largest, key)) == (min(found), max(found))


def test_the_space_of_a_config_is_printed(capsys):
    main(["list", "space", *SMALL, *CHOICES, "space.operations=[sep3,highpass5]"])
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    assert "\ngenotypes: 16 = 2^2 × 2 choices of streams × 2 of attention\n" in text
    assert ["2", "1", "8", "1", "2"] in lines and any(line[:2] == ["highpass5", "high-pass"] for line in lines)
    assert not any("milliseconds," in line for line in lines)
    main(["list", "space", *SMALL, "search.latency=true"])
    assert "milliseconds" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, expected", [
    (["space", "--config", "nowhere.yaml"], "no such file or preset"),
    (["space", "space.cell=3"], "did you mean cells"),
    (["space", "--preview", "a.png"], "belong to list methods"),
    (["methods", "--config", "quick"], "--config belongs to list space")])
def test_what_does_not_belong_to_a_list_is_told(capsys, arguments, expected):
    with pytest.raises(SystemExit) as ended:
        main(["list", *arguments])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and expected in error and error.count("\n") == 1
