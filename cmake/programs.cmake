# The programs and the tools: what is built, installed, documented and tested goes over these lists.
#
# A program `name` has its main() in apps/programs/name.cpp. Its section in docs/commands.md is written by scripts/update-commands; the rest
# of its page is docs/programs.md.
set(BSBR_PROGRAM_LIST  # name: what it is for, in a few words
    "bsbr_forward: run a model with BSBR attention on long sequences"
    "bsbr_evaluate: tell how well a model predicts the next token of long sequences"
    "bsbr_train: train a model to predict the next token, and go on from checkpoints"
    "bsbr_generate: continue texts and token sequences with a model, token by token"
    "bsbr_init: write a model file with random weights"
    "bsbr_compare: compare time and memory of seven attention mechanisms")

# The Python tools that are installed.
set(BSBR_TOOL_LIST  # name: script: what it is for
    "bsbr-analyze: tools/analyze_results.py: draw a comparison of architectures and report on it"
    "bsbr-plot-training: tools/plot_training.py: draw the logs of training runs"
    "bsbr-tokens: tools/tokens.py: turn text into token files and back"
    "bsbr-convert: tools/convert_weights.py: convert weights between PyTorch, safetensors and bsbr"
    "bsbr-scaling: perf/scaling/scaling.py: measure, model and draw how bsbr scales")

# What is read of them: BSBR_PROGRAMS, BSBR_TOOLS; BSBR_PURPOSE_name of each, BSBR_SCRIPT_name of a tool.
set(BSBR_PROGRAMS)
foreach(line IN LISTS BSBR_PROGRAM_LIST)
  string(REGEX MATCH "^([^:]+): (.+)$" line "${line}")
  list(APPEND BSBR_PROGRAMS ${CMAKE_MATCH_1})
  set(BSBR_PURPOSE_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
endforeach()
set(BSBR_TOOLS)
foreach(line IN LISTS BSBR_TOOL_LIST)
  string(REGEX MATCH "^([^:]+): ([^:]+): (.+)$" line "${line}")
  list(APPEND BSBR_TOOLS ${CMAKE_MATCH_1})
  set(BSBR_SCRIPT_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
  set(BSBR_PURPOSE_${CMAKE_MATCH_1} "${CMAKE_MATCH_3}")
endforeach()
list(JOIN BSBR_PROGRAMS ", " BSBR_PROGRAM_NAMES)  # for texts
