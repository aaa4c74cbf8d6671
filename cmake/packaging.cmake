# SPDX-License-Identifier: Apache-2.0
# `cmake --install`: the command, the libraries with their headers, a CMake package (find_package(belfry),
# target belfry::engine), completions for bash.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(BELFRY_HEADER_DIR ${CMAKE_INSTALL_INCLUDEDIR}/belfry)
set(BELFRY_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/belfry)

foreach(name IN ITEMS options kernels engine)
  set_target_properties(belfry_${name} PROPERTIES EXPORT_NAME ${name})
endforeach()
target_include_directories(belfry_kernels INTERFACE $<INSTALL_INTERFACE:${BELFRY_HEADER_DIR}>)
install(TARGETS belfry RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS belfry_options belfry_kernels belfry_engine EXPORT belfry
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT belfry NAMESPACE belfry:: FILE belfry-targets.cmake DESTINATION ${BELFRY_PACKAGE_DIR})

configure_package_config_file(cmake/belfry-config.cmake.in ${CMAKE_BINARY_DIR}/belfry-config.cmake
  INSTALL_DESTINATION ${BELFRY_PACKAGE_DIR})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/belfry-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES cmake/onednn.cmake ${CMAKE_BINARY_DIR}/belfry-config.cmake
  ${CMAKE_BINARY_DIR}/belfry-config-version.cmake DESTINATION ${BELFRY_PACKAGE_DIR})

# Headers that a program may include: the engine's but for those that need a library of the build, of the
# kernels the core and each op's contract.
install(DIRECTORY belfry engine kernels ${CMAKE_BINARY_DIR}/generated/ DESTINATION ${BELFRY_HEADER_DIR}
  FILES_MATCHING PATTERN "*.hpp"
  PATTERN "array_column.hpp" EXCLUDE
  PATTERN "config_check.hpp" EXCLUDE
  PATTERN "config_fields.hpp" EXCLUDE
  PATTERN "config_schema.hpp" EXCLUDE
  PATTERN "feature_assembly.hpp" EXCLUDE
  PATTERN "feature_builder.hpp" EXCLUDE
  PATTERN "interaction_encoder.hpp" EXCLUDE
  PATTERN "presets_ranking.hpp" EXCLUDE
  PATTERN "table_source.hpp" EXCLUDE
  PATTERN "simt*.hpp" EXCLUDE
  PATTERN "*-inl.hpp" EXCLUDE
  PATTERN "topk_scores_*.hpp" EXCLUDE
  PATTERN "cublaslt.hpp" EXCLUDE
  PATTERN "device_cuda.hpp" EXCLUDE
  PATTERN "gemm_p*.hpp" EXCLUDE
  PATTERN "softmax_*.hpp" EXCLUDE)

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Completions are made from what the command itself says of its verbs and options.
set(BELFRY_COMPLETIONS ${CMAKE_BINARY_DIR}/completions/belfry)
add_custom_command(OUTPUT ${BELFRY_COMPLETIONS}
  COMMAND ${CMAKE_COMMAND} -DBELFRY=$<TARGET_FILE:belfry> -DOUTPUT=${BELFRY_COMPLETIONS}
          -P ${CMAKE_SOURCE_DIR}/cmake/completions.cmake
  DEPENDS belfry ${CMAKE_SOURCE_DIR}/cmake/completions.cmake VERBATIM)
add_custom_target(belfry_completions ALL DEPENDS ${BELFRY_COMPLETIONS})
install(FILES ${BELFRY_COMPLETIONS} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
