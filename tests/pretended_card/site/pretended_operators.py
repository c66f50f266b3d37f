"""Operators that only a card has, worded by those of the processor: softmax of 16 bit in fp32, depthwise convolution."""

kept = []  # libraries go with the last reference to them


def install(torch) -> None:
    """Register them for the card; and let storages be copied there."""
    library = torch.library.Library("aten", "IMPL")
    kept.append(library)

    def _below(name, *args):
        moved = [arg.cpu() if isinstance(arg, torch.Tensor) else arg for arg in args]
        return getattr(torch.ops.aten, name)(*moved).cuda()

    def log_softmax(x, dim, half_to_float):
        return _below("_log_softmax", x.float() if half_to_float else x, dim, False)

    def backward_of(name):
        def backward(gradient, output, dim, input_dtype):
            return _below(name, gradient, output, dim, output.dtype).to(input_dtype)

        return backward

    def softmax(x, dim, half_to_float):
        return _below("_softmax", x.float() if half_to_float else x, dim, False)

    def histc(x, bins=100, min=0, max=0):
        return _below("histc", x.float(), bins, min, max).to(x.dtype)

    def depthwise(x, weight, _, bias, stride, padding, dilation):
        bias = None if bias is None else bias.cpu()
        return torch.conv2d(x.cpu(), weight.cpu(), bias, stride, padding, dilation, groups=x.shape[1]).cuda()

    def convolution_backward(*args):
        moved = [arg.cpu() if isinstance(arg, torch.Tensor) else arg for arg in args]
        found = torch.ops.aten.convolution_backward(*moved)
        return tuple(None if tensor is None else tensor.cuda() for tensor in found)

    for name, operator in {
        "_softmax": softmax,
        "_log_softmax": log_softmax,
        "_softmax_backward_data": backward_of("_softmax_backward_data"),
        "_log_softmax_backward_data": backward_of("_log_softmax_backward_data"),
        "histc": histc,
        "_conv_depthwise2d": depthwise,
        "convolution_backward": convolution_backward,
    }.items():
        library.impl(name, operator, "CUDA")
    _copies(torch)


def _copies(torch) -> None:
    """copy.deepcopy() of a tensor on the card, which goes by storages: PEFT does it with embeddings that are trained."""
    stock = torch.Tensor.__deepcopy__

    def deepcopy(self, memo):
        if self.device.type != "cuda" or id(self) in memo:
            return stock(self, memo)
        memo[id(self)] = made = self.detach().clone().requires_grad_(self.requires_grad)
        return made

    torch.Tensor.__deepcopy__ = deepcopy
