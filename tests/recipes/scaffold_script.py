"""A script with SCAFFOLD's helper as NVFlare's have it; it tells the control that it began with."""

import copy

import torch

import flare_async.client as flare
from flare_async.client.scaffold import AlgorithmConstants, PTScaffoldHelper
from tests.recipes.test_scaffold import RATE_OF_SCRIPTS, REFUSED

flare.init()
site = flare.get_site_name()
helper, net = PTScaffoldHelper(), torch.nn.Linear(2, 1, bias=False).double()
helper.init(net)
while flare.is_running():
    model = flare.receive()
    net.load_state_dict(model.params)
    received = copy.deepcopy(net)
    helper.load_global_controls(model.meta[AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL])
    controls = helper.get_params()
    with torch.no_grad():
        net.weight -= RATE_OF_SCRIPTS * int(site[-1])
    helper.model_update(net, RATE_OF_SCRIPTS, *controls)
    helper.terms_update(net, RATE_OF_SCRIPTS, *controls, received)
    own, server = controls[1]["weight"], controls[0]["weight"]
    params = dict(net.state_dict())
    if (site, model.current_round) == REFUSED:
        params = {name: torch.full_like(value, 1e6) for name, value in params.items()}
    flare.send(
        flare.FLModel(
            params=params,
            metrics={"own": own[0, 0].item(), "server": server[0, 0].item()},
            meta={AlgorithmConstants.SCAFFOLD_CTRL_DIFF: helper.get_delta_controls()},
        )
    )
