# SPDX-License-Identifier: Apache-2.0
# `cmake --install`: the command, the libraries with their headers, a CMake package (find_package(belfry),
# target belfry::engine), completions for bash.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(BELFRY_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/belfry)

install(TARGETS belfry RUNTIME)
set_target_properties(belfry_engine PROPERTIES EXPORT_NAME engine)
set_target_properties(belfry_kernels PROPERTIES EXPORT_NAME kernels)
set_target_properties(belfry_options PROPERTIES EXPORT_NAME options)
install(TARGETS belfry_engine belfry_kernels belfry_options EXPORT belfry ARCHIVE
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/belfry)
install(EXPORT belfry NAMESPACE belfry:: DESTINATION ${BELFRY_PACKAGE_DIR} FILE belfry-targets.cmake)

# Headers: what a program may include. The rest of them is for the sources beside them.
install(DIRECTORY engine kernels/core DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/belfry/headers-of
  FILES_MATCHING PATTERN "*.never")
file(GLOB op_folders RELATIVE ${CMAKE_SOURCE_DIR}/kernels ${CMAKE_SOURCE_DIR}/kernels/*)
