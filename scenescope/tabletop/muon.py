"""Muon, an optimizer for networks that are mostly matrices, with AdamW's rule for what is none.

Muon (Jordan et al. 2024) follows the momentum of a matrix's gradient after making all of its singular values one,
so that directions that gradients rarely take are learned as fast as the usual ones. Updates are scaled to what AdamW's
are like (Liu et al. 2025, eq. 4), so that one learning rate serves both.
"""

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al.: takes singular values from (0, 1] to about 0.7 to 1.2 ...
ITERATIONS = 5  # ... in so many rounds
ADAMW_SCALE = 0.2  # root mean square of AdamW's updates, as a share of the learning rate


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix [m, n] with its singular values brought close to one, and its singular vectors kept.

    All rounds are of polynomials in the Gram matrix, which commute: only the smaller side's square is multiplied.
    """
    if len(matrix) > matrix.shape[1]:
        return orthogonal(matrix.T).T
    a, b, c = NEWTON_SCHULZ
    matrix = matrix / (matrix.norm() + 1e-7)
    gram = matrix @ matrix.T
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    whole = eye
    for _ in range(ITERATIONS):
        once = a * eye + b * gram + c * gram @ gram
        whole = once @ whole
        gram = once @ gram @ once
    return whole @ matrix


class Muon(torch.optim.Optimizer):
    """Convolutions and linear layers by Muon, a kernel as the matrix [out, all else]; the rest by AdamW.

    The rest are vectors, embeddings, and layers with fewer than ``SMALLEST`` inputs or outputs.
    """

    SMALLEST = 16

    def __init__(self, network: nn.Module, lr: float, weight_decay: float):
        inner = [module.weight for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
        inner = [weight for weight in inner if min(weight.shape[:2]) >= self.SMALLEST]
        known = set(map(id, inner))
        rest = [parameter for parameter in network.parameters() if id(parameter) not in known]
        groups = [{"params": inner, "matrices": True}, {"params": rest, "matrices": False}]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """One update from the gradients that are there."""
        for group in self.param_groups:
            rule = self._by_muon if group["matrices"] else self._by_adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(rule(parameter.grad, self.state[parameter]), alpha=group["lr"])

    def _by_muon(self, gradient: Tensor, state: dict, momentum: float = 0.95) -> Tensor:
        if not state:
            state["mean"] = torch.zeros_like(gradient)
        state["mean"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(state["mean"], momentum).flatten(1)  # Nesterov's
        return (ADAMW_SCALE * max(ahead.shape) ** 0.5 * orthogonal(ahead)).reshape(gradient.shape)

    def _by_adam(self, gradient: Tensor, state: dict, betas: tuple[float, float] = (0.9, 0.99)) -> Tensor:
        first, second = betas
        if not state:
            state["count"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["count"] += 1
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        count = state["count"].item()
        mean, square = state["mean"] / (1 - first**count), state["square"] / (1 - second**count)
        return mean / (square.sqrt() + 1e-8)
