# SPDX-License-Identifier: Apache-2.0
# cmake -DBELFRY=... -DOUTPUT=... -P completions.cmake: writes completions for bash from --help.
function(help out)
  execute_process(COMMAND ${BELFRY} ${ARGN} --help OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

help(text)
string(REGEX MATCH "Subcommands:.*" text "${text}")
string(REGEX MATCHALL "\n  [a-z]+" verbs "${text}")
list(TRANSFORM verbs STRIP)
set(cases "")
foreach(verb IN LISTS verbs)
  help(text ${verb})
  string(REGEX MATCHALL "--[a-z-]+" options "${text}")
  list(REMOVE_DUPLICATES options)
  list(JOIN options " " options)
  string(APPEND cases "    ${verb}) words=\"${options}\" ;;\n")
endforeach()
list(JOIN verbs " " verbs)

file(WRITE ${OUTPUT} "# Completions of belfry for bash; made by its build.
_belfry() {
  local word=\${COMP_WORDS[COMP_CWORD]} words=
  COMPREPLY=()
  if [ \"\$COMP_CWORD\" -eq 1 ]; then
    COMPREPLY=(\$(compgen -W \"${verbs} --help --version\" -- \"\$word\"))
    return
  fi
  [[ \$word == -* ]] || return
  case \${COMP_WORDS[1]} in
${cases}  esac
  COMPREPLY=(\$(compgen -W \"\$words\" -- \"\$word\"))
}
complete -o default -F _belfry belfry
")
