"""Tab completion.

usage: eval "$(mtrl-surgery completion bash)"            in ~/.bashrc
       eval "$(mtrl-surgery completion zsh)"             in ~/.zshrc, after compinit
       mtrl-surgery completion fish | source             in ~/.config/fish/config.fish

It completes commands, groups, options and keys: `mtrl-surgery train method=<TAB>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any

from mtrl_surgery.cli.arguments import usage, wants_help
from mtrl_surgery.cli.schema import check_choice, leaves
from mtrl_surgery.commands import COMMANDS
from mtrl_surgery.commands.sweep import ACTIONS
from mtrl_surgery.sweeps.plan import PREFIX, SweepOptions

# Bash breaks words at "=", so what stands before the last "=" must not come back in a reply; a reply that is complete
# ends in a space (the completion is registered with nospace, for replies such as `method=`).
BASH = r"""_mtrl_surgery() {
    local line=${COMP_LINE:0:COMP_POINT} word reply
    word=${line##* }
    local -a helper=(mtrl-surgery)
    case $1 in python*) [[ $line == *" -m mtrl_surgery "* ]] || return 1; helper=("$1" -m mtrl_surgery) ;; esac
    COMPREPLY=()
    while IFS= read -r reply; do
        [[ $reply == "$word"* ]] || continue
        case $word in *=*) reply=${reply#"${word%=*}="} ;; esac
        case $reply in *[=./]) ;; *) reply="$reply " ;; esac
        COMPREPLY+=("$reply")
    done < <("${helper[@]}" completion query "$line" 2>/dev/null)
}
complete -o nospace -F _mtrl_surgery mtrl-surgery
for _mtrl_python in python python3; do
    complete -p "$_mtrl_python" >/dev/null 2>&1 ||
        complete -o nospace -o bashdefault -o default -F _mtrl_surgery "$_mtrl_python"
done
unset _mtrl_python"""

ZSH = r"""_mtrl_surgery() {
    local -a replies
    replies=("${(@f)$(mtrl-surgery completion query "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
    compadd -Q -S '' -- ${replies:#}
}
compdef _mtrl_surgery mtrl-surgery"""

FISH = "complete -c mtrl-surgery -f -a '(mtrl-surgery completion query (commandline -cp) 2>/dev/null)'"

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main(words: Sequence[str]) -> int:
    """Print a shell's script, or (for the scripts) the replies to a half-typed line."""
    if not words or wants_help(words):
        print(usage(__doc__))
        return 0
    if words[0] == "query":
        print("\n".join(query(words[1] if len(words) > 1 else "")))
        return 0
    check_choice("shell", words[0], SCRIPTS)
    print(SCRIPTS[words[0]])
    return 0


def query(line: str) -> list[str]:
    """What the last word of a half-typed command line could become."""
    words = _our_words(line)
    word = "" if not words or line.endswith(" ") else words.pop()
    if not words:
        return _starting(word, [*COMMANDS, "--help", "--version"])
    if words[0] == "train" and word.startswith(PREFIX) and not {"-m", "--multirun"}.isdisjoint(words):
        return _starting(word, [f"{PREFIX}{key}" for key in _keys(SweepOptions)])
    if words[0] == "train":
        # A choice of several, or what is not whole yet, says nothing about the keys.
        before = [one for one in words[1:] if "=" in one and "," not in one and not one.startswith(PREFIX)]
        return _query_train(before, word)
    return _starting(word, _words_of(*words))


def _our_words(line: str) -> list[str]:
    """The words after `mtrl-surgery` or `python -m mtrl_surgery`."""
    words = line.split()
    first = words[0].rpartition("/")[2] if words else ""
    return words[3:] if first.startswith("python") else words[1:]


def _query_train(before: Sequence[str], word: str) -> list[str]:
    """Groups, options and keys; of a sweep's choices (`method=ls,sa`) the last."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    from mtrl_surgery.cli.composition import composing
    from mtrl_surgery.commands.program import TRAIN

    with composing(TRAIN):
        loader = GlobalHydra.instance().config_loader()
        groups = [group for group in loader.list_groups("") if group != "hydra"]
        key, equals, values = word.partition("=")
        if equals:
            options = loader.get_group_options(key) if key in groups else []
            chosen, _, value = values.rpartition(",")
            return [f"{key}={chosen}{',' * bool(chosen)}{one}" for one in _starting(value, options)]
        keys = [f"{group}=" for group in groups]
        for leaf in leaves(hydra.compose(TRAIN.config_name, TRAIN.for_hydra(before))):
            dot = leaf.find(".", len(word))  # one level at a time
            keys.append(f"{leaf}=" if dot < 0 else leaf[: dot + 1])
    return sorted(set(_starting(word, keys)))


def _words_of(command: str, *words: str) -> list[str]:
    """What may follow a command and these words: names, and the keys of its module's `Arguments`."""
    if command == "sweep":
        return [] if words else list(ACTIONS)
    if command == "completion":
        return list(SCRIPTS)
    if command not in COMMANDS:
        return []
    module = import_module(COMMANDS[command].module)
    return list(module.METHODS) if command == "methods" else _keys(module.Arguments)


def _keys(arguments: type[Any]) -> list[str]:
    return [f"{field.name}=" for field in fields(arguments)]


def _starting(word: str, replies: Sequence[str]) -> list[str]:
    return [reply for reply in replies if reply.startswith(word)]
