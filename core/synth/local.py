"""A local model that writes rows in batches, in the job's own process."""

from core.synth.endpoint import Reply


class Local:
    """A causal language model with a chat template; batches are padded on the left."""

    def __init__(self, model: str, seed: int = 0):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from core.synth.weighing import directory

        path = directory(model)
        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).to(device).eval()
        torch.manual_seed(seed)

    def batch(self, chats: list[list[dict]], *, temperature: float, max_tokens: int) -> list[Reply]:
        """Replies to several chats at once."""
        texts = [self.tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in chats]
        given = self.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(self.model.device)
        with self.torch.inference_mode():
            out = self.model.generate(
                **given,
                max_new_tokens=max_tokens,
                do_sample=temperature > 0,
                temperature=temperature if temperature > 0 else None,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return [self._reply(ids, mask) for ids, mask in zip(out, given["attention_mask"], strict=True)]

    def ask(self, messages: list[dict], *, temperature: float, max_tokens: int, **_) -> Reply:
        return self.batch([messages], temperature=temperature, max_tokens=max_tokens)[0]

    def _reply(self, ids, mask) -> Reply:
        new = ids[len(mask) :].tolist()
        ends = self.model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends]) | {self.tokenizer.eos_token_id}
        at = next((place for place, id in enumerate(new) if id in ends), None)
        text = self.tokenizer.decode(new if at is None else new[:at], skip_special_tokens=True)
        finish = "length" if at is None else "stop"
        return Reply(text, finish, int(mask.sum()), len(new) if at is None else at + 1)
