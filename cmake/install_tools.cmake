# What `cmake --install` copies besides the library and its programs: the Python tools, the examples, a trained model, and sample module files. The tools keep
# their places relative to each other, and module files find the prefix from where they lie, so that the tree may be moved.
set(bsbr_data "${CMAKE_INSTALL_DATADIR}/bsbr")

foreach(folder IN ITEMS tools perf/scaling python/src/bsbr_convert)
  install(DIRECTORY "${folder}/" DESTINATION "${bsbr_data}/${folder}" FILES_MATCHING PATTERN "*.py" PATTERN "*.json"
          PATTERN architectures.json EXCLUDE PATTERN __pycache__ EXCLUDE)
endforeach()
# Not the copy of the source tree: what is installed is what was built.
install(FILES "${PROJECT_BINARY_DIR}/share/bsbr/architectures.json" DESTINATION "${bsbr_data}/python/src/bsbr_convert")

file(RELATIVE_PATH from_bindir "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_DATADIR}/bsbr")
foreach(name IN LISTS BSBR_TOOLS)  # a program in bin that runs the script
  set(script ${BSBR_SCRIPT_${name}})
  configure_file(cmake/installed_tool.in "${PROJECT_BINARY_DIR}/tools/${name}" @ONLY)
  install(PROGRAMS "${PROJECT_BINARY_DIR}/tools/${name}" DESTINATION "${CMAKE_INSTALL_BINDIR}")
endforeach()

install(DIRECTORY examples DESTINATION "${bsbr_data}" PATTERN __pycache__ EXCLUDE)
install(DIRECTORY models DESTINATION "${bsbr_data}" FILES_MATCHING PATTERN "*.h5" PATTERN README.md)

# levels: of folders between a module file and the prefix.
set(modules "${bsbr_data}/modulefiles")
string(REPLACE "/" ";" levels "${modules}/kind/bsbr/file")
list(LENGTH levels levels)
configure_file(cmake/modulefile.lua.in modulefiles/lmod/bsbr/${PROJECT_VERSION}.lua @ONLY)
configure_file(cmake/modulefile.tcl.in modulefiles/tcl/bsbr/${PROJECT_VERSION} @ONLY)
install(DIRECTORY "${PROJECT_BINARY_DIR}/modulefiles/" DESTINATION "${modules}")
