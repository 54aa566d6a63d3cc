"""The mixture finds clusters, and its means stay in their place without points."""

import torch

from pfedmoap.methods.gmm_pt.gaussian_mixture import mixture_means


def test_means_of_clear_clusters_are_found():
    stream = torch.Generator().manual_seed(1)
    truth = torch.randn(4, 16, generator=stream)
    points = truth.repeat(20, 1) + 0.1 * torch.randn(80, 16, generator=stream)
    start = truth + 0.3 * torch.randn(4, 16, generator=stream)
    found = mixture_means(points, start)
    assert torch.allclose(found, torch.stack([points[i::4].mean(0) for i in range(4)]), atol=1e-3)


def test_one_component_is_the_mean():
    points = torch.randn(10, 3)
    assert torch.allclose(mixture_means(points, torch.zeros(1, 3)), points.mean(0)[None], atol=1e-5)


def test_a_component_without_points_stays():
    points = 0.1 * torch.randn(10, 8)
    far = torch.full((1, 8), 50.0)
    found = mixture_means(points, torch.cat([torch.zeros(1, 8), far]))
    assert torch.allclose(found[1:], far, atol=1e-4)


def test_it_does_not_depend_on_the_unit():
    points, start = torch.randn(12, 6), torch.randn(3, 6)
    assert torch.allclose(
        mixture_means(points, start) * 0.01, mixture_means(points * 0.01, start * 0.01), atol=1e-6
    )


def test_equal_points_are_no_trouble():
    assert mixture_means(torch.ones(4, 2), torch.ones(2, 2)).isfinite().all()
