"""`jumpdeck completion`: scripts for four shells; profile names are asked from `jumpdeck profiles list -o name`."""

from __future__ import annotations

import argparse
import sys

_WITH_PROFILE = ("pods", "logs", "exec", "connect", "trust", "whoami", "sign-in", "sign-out")

_BASH = """\
_jumpdeck() {
    local word="${COMP_WORDS[COMP_CWORD]}" command="${COMP_WORDS[1]}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "@COMMANDS@ $(jumpdeck profiles list -o name 2>/dev/null)" -- "$word"))
    elif [ "$COMP_CWORD" -eq 2 ]; then
        case "$command" in
            @WITH_PROFILE@) COMPREPLY=($(compgen -W "$(jumpdeck profiles list -o name 2>/dev/null)" -- "$word")) ;;
            profiles) COMPREPLY=($(compgen -W "@PROFILES@" -- "$word")) ;;
            lab) COMPREPLY=($(compgen -W "fault faults" -- "$word")) ;;
            secrets) COMPREPLY=($(compgen -W "set remove list" -- "$word")) ;;
            completion) COMPREPLY=($(compgen -W "@SHELLS@" -- "$word")) ;;
        esac
    elif [ "$COMP_CWORD" -eq 3 ] && [ "$command" = profiles ]; then
        COMPREPLY=($(compgen -W "$(jumpdeck profiles list -o name 2>/dev/null)" -- "$word"))
    elif [ "$COMP_CWORD" -eq 3 ] && [ "$command" = secrets ]; then
        COMPREPLY=($(compgen -W "@KINDS@ $(jumpdeck profiles list -o name 2>/dev/null)" -- "$word"))
    elif [ "$COMP_CWORD" -eq 4 ] && [ "$command" = secrets ] && [ "${COMP_WORDS[3]}" = token ]; then
        COMPREPLY=($(compgen -W "$(jumpdeck profiles list -o name 2>/dev/null)" -- "$word"))
    fi
}
complete -o default -F _jumpdeck jumpdeck
"""
_ZSH = """\
#compdef jumpdeck
_jumpdeck() {
    local -a names
    names=(${(f)"$(jumpdeck profiles list -o name 2>/dev/null)"})
    if (( CURRENT == 2 )); then
        compadd -- @COMMANDS@ $names
    elif (( CURRENT == 3 )); then
        case "$words[2]" in
            @WITH_PROFILE@) compadd -- $names ;;
            profiles) compadd -- @PROFILES@ ;;
            lab) compadd -- fault faults ;;
            secrets) compadd -- set remove list ;;
            completion) compadd -- @SHELLS@ ;;
        esac
    elif (( CURRENT == 4 )) && [[ "$words[2]" == profiles ]]; then
        compadd -- $names
    elif (( CURRENT == 4 )) && [[ "$words[2]" == secrets ]]; then
        compadd -- @KINDS@ $names
    elif (( CURRENT == 5 )) && [[ "$words[2] $words[4]" == "secrets token" ]]; then
        compadd -- $names
    else
        _files
    fi
}
compdef _jumpdeck jumpdeck
"""
_FISH = """\
function __jumpdeck_profiles
    jumpdeck profiles list -o name 2>/dev/null
end
complete -c jumpdeck -f -n __fish_use_subcommand -a '@COMMANDS@ (__jumpdeck_profiles)'
complete -c jumpdeck -f -n '__fish_seen_subcommand_from @WITH_PROFILE_FISH@' -a '(__jumpdeck_profiles)'
complete -c jumpdeck -f -n '__fish_seen_subcommand_from profiles' -a '@PROFILES@ (__jumpdeck_profiles)'
complete -c jumpdeck -f -n '__fish_seen_subcommand_from lab' -a 'fault faults'
complete -c jumpdeck -f -n '__fish_seen_subcommand_from secrets' -a 'set remove list @KINDS@ (__jumpdeck_profiles)'
complete -c jumpdeck -f -n '__fish_seen_subcommand_from completion' -a '@SHELLS@'
"""
_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName jumpdeck -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | ForEach-Object { $_.ToString() })
    $at = $words.Count - [int]($wordToComplete -ne '')
    $names = @(jumpdeck profiles list -o name 2>$null)
    $choices = @()
    if ($at -le 1) { $choices = '@COMMANDS@'.Split(' ') + $names }
    elseif ($at -eq 2) {
        switch ($words[1]) {
            'profiles' { $choices = '@PROFILES@'.Split(' ') }
            'lab' { $choices = 'fault', 'faults' }
            'secrets' { $choices = 'set', 'remove', 'list' }
            'completion' { $choices = '@SHELLS@'.Split(' ') }
            default { $choices = $names }
        }
    }
    elseif ($words[1] -eq 'secrets') { $choices = '@KINDS@'.Split(' ') + $names }
    $choices | Where-Object { $_ -like "$wordToComplete*" } |
        ForEach-Object { [System.Management.Automation.CompletionResult]::new($_) }
}
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("shell", choices=sorted(SCRIPTS))


def run(args: argparse.Namespace) -> int:
    """Print the script of one shell."""
    from app.cli.main import COMMANDS

    words = {
        "@COMMANDS@": " ".join(COMMANDS),
        "@PROFILES@": "list show add edit remove import export check",
        "@SHELLS@": " ".join(sorted(SCRIPTS)),
        "@KINDS@": "password passphrase token client-secret client-certificate",
        "@WITH_PROFILE_FISH@": " ".join(_WITH_PROFILE),
        "@WITH_PROFILE@": "|".join(_WITH_PROFILE),
    }
    script = SCRIPTS[args.shell]
    for mark, text in words.items():
        script = script.replace(mark, text)
    sys.stdout.write(script)
    return 0
