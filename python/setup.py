"""Marks the wheel as what it is: any Python 3, this platform, since it carries the shared library."""

import sysconfig

from setuptools import Distribution, setup

try:
    from setuptools.command.bdist_wheel import bdist_wheel  # setuptools has its own since 70.1
except ImportError:
    from wheel.bdist_wheel import bdist_wheel


class Platform(Distribution):
    def has_ext_modules(self):
        return True  # so that it goes where platform code goes


class PlatformWheel(bdist_wheel):
    def get_tag(self):
        return "py3", "none", sysconfig.get_platform().replace("-", "_").replace(".", "_")


setup(distclass=Platform, cmdclass={"bdist_wheel": PlatformWheel})
