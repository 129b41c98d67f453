"""What an error shows to the tools that report exceptions."""

from __future__ import annotations


def shown(error: BaseException) -> str:
    """Everything that a tool which reports exceptions would show of one: text, chain, and locals of our frames."""
    seen: list[str] = []
    chain: BaseException | None = error
    while chain is not None:
        seen += [str(chain), repr(chain), repr(vars(chain))]
        frame = chain.__traceback__
        while frame is not None:
            if "helmr_provider" in frame.tb_frame.f_code.co_filename:
                seen += [repr(value) for value in frame.tb_frame.f_locals.values()]
            frame = frame.tb_next
        chain = chain.__cause__ or chain.__context__
    return "\n".join(seen)
