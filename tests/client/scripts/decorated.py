"""The deprecated decorators, as NVFlare's examples used them."""

import flare_async.client as flare


@flare.evaluate
def evaluate(input_model=None):
    """Return a metric of the received model."""
    return float(input_model.params["w"].mean())


@flare.train
def train(input_model=None, delta=1.0):
    """Return the model plus something."""
    return flare.FLModel(params={"w": input_model.params["w"] + delta})


def main():
    flare.init()
    while flare.is_running():
        input_model = flare.receive()
        evaluate(input_model)
        train(input_model, delta=2.0)


main()
