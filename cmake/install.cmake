# What `cmake --install` copies: library, headers, programs, the package that find_package(bsbr) reads, and what install_tools.cmake lists. The
# tree may be moved afterwards.
include(CMakePackageConfigHelpers)
set(BSBR_INSTALL_CMAKEDIR "${CMAKE_INSTALL_LIBDIR}/cmake/bsbr")

install(TARGETS bsbr EXPORT bsbr INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
foreach(level IN LISTS BSBR_LEVELS)
  install(TARGETS bsbr_${level} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}/glibc-hwcaps/${level}" NAMELINK_SKIP)
  set_target_properties(bsbr_${level} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
endforeach()
install(DIRECTORY include/bsbr DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(EXPORT bsbr FILE bsbrTargets.cmake NAMESPACE bsbr:: DESTINATION "${BSBR_INSTALL_CMAKEDIR}")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
install(FILES "${PROJECT_BINARY_DIR}/share/bsbr/architectures.json" DESTINATION "${CMAKE_INSTALL_DATADIR}/bsbr")

get_target_property(BSBR_LIBRARY_TYPE bsbr TYPE)
configure_package_config_file(cmake/bsbrConfig.cmake.in bsbrConfig.cmake INSTALL_DESTINATION "${BSBR_INSTALL_CMAKEDIR}"
                              PATH_VARS CMAKE_INSTALL_BINDIR)
# Before 1.0 a new minor version may change the interface.
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/bsbrConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/bsbrConfig.cmake" "${CMAKE_CURRENT_BINARY_DIR}/bsbrConfigVersion.cmake"
              cmake/cached_dependencies.cmake cmake/find_hdf5.cmake DESTINATION "${BSBR_INSTALL_CMAKEDIR}")

# A shared library and the programs find what they were linked with, and the programs find the library beside them, wherever the tree is.
if(BSBR_ENABLE_PROGRAMS)
  install(TARGETS ${BSBR_PROGRAMS})
  file(RELATIVE_PATH bsbr_libdir_from_bindir "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}")
  set(bsbr_origin "$<IF:$<PLATFORM_ID:Darwin>,@loader_path,$ORIGIN>")
  set_property(TARGET ${BSBR_PROGRAMS} APPEND PROPERTY INSTALL_RPATH "${bsbr_origin}/${bsbr_libdir_from_bindir}")
  set_target_properties(${BSBR_PROGRAMS} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  include(cmake/install_tools.cmake)
endif()
set_target_properties(bsbr PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
